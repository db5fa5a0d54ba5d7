package official_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// A wireMessage is what an official package published; see testdata/README.md.
type wireMessage struct {
	ID      string          `json:"id"`
	Channel string          `json:"channel"`
	UID     string          `json:"uid"` // of an entry in a stream
	NSP     string          `json:"nsp"`
	Type    int             `json:"type"`
	Payload []byte          `json:"payload"`
	Decoded json.RawMessage `json:"decoded"`
}

func wireMessages(t testing.TB) []wireMessage {
	t.Helper()
	f, err := os.Open("testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []wireMessage
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var m wireMessage
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	if len(all) < 300 {
		t.Fatalf("got %d recorded messages, want 300 and more", len(all))
	}
	return all
}

// namespace returns the namespace that the channel is of; nothing for a row of the table, which
// whatever channel may name.
func (w *wireMessage) namespace() string {
	if w.Channel == "" {
		return ""
	}
	return strings.Split(w.Channel, "#")[1]
}

func (w *wireMessage) packed() bool { return w.Payload[0] != '{' }

// decode reads w as an adapter would.
func (w *wireMessage) decode(node string) (official.Header, *cluster.Message, error) {
	if w.UID == "" {
		return official.Options{}.Decode(node, w.namespace(), w.Payload)
	}
	h := official.Header{Kind: official.Kind(w.Type), UID: w.UID, Namespace: w.NSP}
	m, err := official.Options{}.DecodeData(h, w.Payload)
	return h, m, err
}

// encode writes m as w was written.
func (w *wireMessage) encode(m *cluster.Message) ([]byte, error) {
	switch {
	case w.UID != "" && w.packed():
		return official.AppendDataMsgpack(nil, m)
	case w.UID != "":
		return official.AppendDataJSON(nil, m)
	case strings.HasPrefix(w.ID, "redis-sharded"):
		return official.Encode(m)
	case w.packed():
		return official.AppendMsgpack(nil, m)
	default:
		return official.AppendJSON(nil, m)
	}
}

var numberRoom = regexp.MustCompile(`"rooms":\s*\[[^\]]*\b7\b`)

// differs says why we do not write w in the bytes that it was read from; nothing where we must.
func (w *wireMessage) differs() string {
	switch text := string(w.Decoded); {
	case strings.HasPrefix(w.ID, "postgres-emitter"):
		return "this emitter leaves out the namespace and some flags"
	case numberRoom.MatchString(text):
		return "the room 7 is the text 7 here, and written as both where it selects"
	case strings.Contains(text, "$date"):
		return "a Date becomes text, as it does for clients"
	case strings.Contains(text, "expectSingleResponse"):
		return "expectSingleResponse says nothing to the receiver"
	case strings.Contains(text, `"compress":true`):
		return "compress: true is the default and not written"
	default:
		return ""
	}
}

func TestWire(t *testing.T) {
	same := 0
	for _, w := range wireMessages(t) {
		t.Run(w.ID, func(t *testing.T) {
			h, m, err := w.decode("me")
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if h.Kind.IsPresence() || h.Attachment != "" {
				if m != nil {
					t.Errorf("got %+v, want no message", m)
				}
				got := h.AppendJSON(nil)
				if !strings.HasPrefix(w.ID, "postgres-emitter") && !bytes.Equal(got, w.Payload) {
					t.Errorf("encoded: got %s, want %s", got, w.Payload)
				}
				return
			}
			if m == nil {
				t.Fatal("Decode: got no message")
			}
			if diff := cmp.Diff(expected(t, &w), summary(t, m), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decoded (- want, + got):\n%s", diff)
			}
			data, err := w.encode(m)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			equal := bytes.Equal(data, w.Payload)
			switch why := w.differs(); {
			case equal && why != "":
				t.Errorf("got the same bytes, want others: %s", why)
			case equal:
				same++
			case why == "":
				t.Errorf("encoded: got\n%q, want\n%q", data, w.Payload)
			}

			// What we write, we read as we read the original.
			again := w
			again.Payload = data
			_, m2, err := again.decode("me")
			if err != nil {
				t.Fatalf("Decode of what was written: %v", err)
			}
			if diff := cmp.Diff(summary(t, m), summary(t, m2), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decoded again (- first, + second):\n%s", diff)
			}
		})
	}
	t.Logf("%d messages are written in the same bytes", same)
}

// TestWireOwn checks that a node does not read its own messages, and that who is nobody reads all.
func TestWireOwn(t *testing.T) {
	for _, w := range wireMessages(t) {
		if w.UID != "" {
			continue
		}
		h, m, err := w.decode("")
		if err != nil || m == nil {
			continue
		}
		if h2, m, err := w.decode(h.UID); m != nil || err != nil || h2.UID != h.UID {
			t.Errorf("%s: got %v and error %v, want neither", w.ID, m, err)
		}
	}
}
