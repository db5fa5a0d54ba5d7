//go:build unix

package redisstream_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
)

// A wireMessage is what an official package wrote: an entry of a stream, or a message on a channel. See the README in the
// testdata of internal/official.
type wireMessage struct {
	ID      string          `json:"id"`
	Channel string          `json:"channel"`
	UID     string          `json:"uid"`
	NSP     string          `json:"nsp"`
	Type    int             `json:"type"`
	Payload []byte          `json:"payload"`
	Decoded json.RawMessage `json:"decoded"`
}

func wireMessages(t testing.TB) (all []wireMessage) {
	t.Helper()
	f, err := os.Open("../../internal/official/testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var w wireMessage
		if err := json.Unmarshal(s.Bytes(), &w); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(w.ID, "redis-streams") {
			all = append(all, w)
		}
	}
	if len(all) < 100 {
		t.Fatalf("got %d recorded messages, want 100 and more", len(all))
	}
	return all
}

// data returns the field data of an entry.
func (w *wireMessage) data() string {
	if w.Payload[0] == '{' {
		return string(w.Payload)
	}
	return base64.StdEncoding.EncodeToString(w.Payload)
}

// fields writes an entry as a Bus hands it to the Dialect: names and values with their lengths.
func fields(pairs ...string) (b []byte) {
	for _, s := range pairs {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func (w *wireMessage) entry() []byte {
	return fields("uid", w.UID, "nsp", w.NSP, "type", strconv.Itoa(w.Type), "data", w.data())
}

// differs says which messages we do not write as they were read, whose data internal/official explains.
var differs = regexp.MustCompile(`"rooms":\s*\[[^\]]*\b7\b|\$date|expectSingleResponse|"compress":true`)

func TestWire(t *testing.T) {
	same := 0
	for _, w := range wireMessages(t) {
		t.Run(w.ID, func(t *testing.T) {
			d, node := redisstream.NewDialect(nil), "me"
			topic, data := "stream "+w.NSP, []byte(nil)
			if w.Channel == "" {
				data = w.entry()
			} else {
				topic, data = w.Channel, w.Payload
				parts := strings.Split(w.Channel, "#")
				if len(parts) == 4 {
					node = parts[2]
				}
				d = redisstream.NewDialect(&redisstream.Options{ChannelPrefix: parts[0]})
			}
			m, err := d.Decode(node, topic, data)
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if kind := official.Kind(w.Type); w.Channel == "" && (kind.IsPresence() || kind.IsResponse()) {
				if m != nil {
					t.Errorf("got %+v, want nothing", m)
				}
				return
			}
			if m == nil {
				t.Fatal("got nothing, want a message")
			}
			if again, err := d.Decode(m.From, topic, data); again != nil || err != nil {
				t.Errorf("read by its sender: got %+v and error %v, want nothing", again, err)
			}
			if again, err := d.Decode("", topic, data); m.Kind != cluster.Reply && (again == nil || err != nil) {
				t.Errorf("read for everybody: got %+v and error %v, want a message", again, err)
			}
			if w.Channel == "" && m.Kind == cluster.Ask { // of version 0.2; we ask on channels
				return
			}
			if w.Channel != "" && m.Kind == cluster.Tell { // a server-side event: ours goes to the stream
				return
			}
			if differs.Match(w.Decoded) {
				return
			}
			gotTopic, got, err := d.Encode(m)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			if gotTopic != topic || !bytes.Equal(got, data) {
				t.Errorf("got on %q\n%q, want on %q\n%q", gotTopic, got, topic, data)
			}
			same++
		})
	}
	if same < 70 {
		t.Errorf("got %d messages written again in the same bytes, want 70 and more", same)
	}
}

// TestVersion2 answers a question that came in the stream there.
func TestVersion2(t *testing.T) {
	d := redisstream.NewDialect(nil)
	for _, w := range wireMessages(t) {
		if w.Channel != "" {
			continue
		}
		m, err := d.Decode("me", "stream "+w.NSP, w.entry())
		if err != nil || m == nil || m.Kind != cluster.Ask {
			continue
		}
		topic, data, err := d.Encode(&cluster.Message{
			Kind: cluster.Reply, From: "me", To: m.From, Request: m.Request, Namespace: m.Namespace,
			Answer: &cluster.Answer{First: true, Data: []byte(`["x"]`)},
		})
		if err != nil || topic != "stream /" {
			t.Errorf("%s: got topic %q and error %v, want the stream", w.ID, topic, err)
		}
		var asked struct {
			RequestID string `json:"requestId"`
		}
		if err := json.Unmarshal(w.Decoded, &asked); err != nil || asked.RequestID == "" {
			t.Fatalf("%s: got no id of the question: %v", w.ID, err)
		}
		if !bytes.Contains(data, []byte(`"requestId":"`+asked.RequestID+`"`)) {
			t.Errorf("%s: got the answer %q, want id %q in it", w.ID, data, asked.RequestID)
		}
	}
}

// TestEntry looks at what really lies in Redis.
func TestEntry(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisstream.Options{StreamName: "st", StreamCount: 3, MaxLen: 500, Logger: quiet})
	end := func(key string) []any {
		list := s.MustDo(t, "XREVRANGE", key, "+", "-", "COUNT", "1").([]any)
		if len(list) == 0 {
			t.Fatalf("nothing in %s", key)
		}
		return list[0].([]any)[1].([]any)
	}
	for _, x := range []struct {
		nsp, key string
		number   uint64
		want     []any
	}{
		// Recorded: where Node.js nodes with streamCount 3 write these.
		{"/", "st-2", 0, []any{"uid", "me", "nsp", "/", "type", "3", "data", `{"packet":{"type":2,"data":["x",1]},"opts":{"rooms":["r"],"except":[],"flags":{}}}`}},
		{"/admin", "st-1", 0, []any{"uid", "me", "nsp", "/admin", "type", "3", "data", `{"packet":{"type":2,"data":["x",1]},"opts":{"rooms":["r"],"except":[],"flags":{}}}`}},
		// There, Node.js nodes write to st--2.
		{"/notifications", "st-1", 255, []any{
			"uid", "me", "nsp", "/notifications", "type", "3", "data", `{"packet":{"type":2,"data":["x",1]},"opts":{"rooms":["r"],"except":[],"flags":{}}}`,
			"atoll", "10.ff",
		}},
	} {
		topic, msg, err := b.Dialect().Encode(&cluster.Message{
			Kind: cluster.Tell, From: "me", Life: 16, Number: x.number,
			Op: &cluster.Op{Kind: cluster.Emit, Namespace: x.nsp, Data: []byte(`["x",1]`), Selector: cluster.Selector{Rooms: []string{"r"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), topic, msg); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x.want, end(x.key)); diff != "" {
			t.Errorf("namespace %s: the entry differs (- want, + got):\n%s", x.nsp, diff)
		}
	}
}

// TestStray has a Node.js node write a namespace to the stream that no Node.js node reads.
func TestStray(t *testing.T) {
	s := redistest.Start(t)
	o := &redisstream.Options{StreamCount: 3, Logger: quiet}
	b := open(t, s, o)
	topics := b.Dialect().Topics("me", "/notifications")
	if !slices.Contains(topics, "stray /notifications") {
		t.Fatalf("got topics %q, want one for what goes astray", topics)
	}
	m := &mail{}
	if _, err := b.Subscribe(t.Context(), "stray /notifications", func(topic string, msg []byte) { m.deliver(topic, "", msg) }); err != nil {
		t.Fatal(err)
	}
	s.MustDo(t, "XADD", "socket.io--2", "*", "uid", "js", "nsp", "/notifications", "type", "3", "data",
		`{"packet":{"type":2,"data":["x"]},"opts":{"rooms":[],"except":[],"flags":{}}}`)
	eventually(t, "the event", func() bool { return slices.Equal(m.texts(), []string{"x"}) })
	if err := b.Publish(t.Context(), "stray /notifications", nil); err == nil {
		t.Error("Publish to what is only read: got no error, want one")
	}
}

// TestObserver sees the entries of all namespaces and streams.
func TestObserver(t *testing.T) {
	s := redistest.Start(t)
	o := &redisstream.Options{StreamCount: 3, Logger: quiet}
	a, b := open(t, s, o), open(t, s, o)
	m := &mail{}
	if _, err := b.Subscribe(t.Context(), "streams", func(topic string, msg []byte) { m.deliver(topic, "", msg) }); err != nil {
		t.Fatal(err)
	}
	for _, nsp := range []string{"/", "/admin", "/a", "/b", "/notifications"} {
		topic, msg := entryIn(t, nsp, nsp)
		if err := a.Publish(t.Context(), topic, msg); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "five entries", func() bool { return len(m.all()) == 5 })
}

// TestNodeSession takes a session that a Node.js node stored (recorded), and has one stored for a Node.js node.
func TestNodeSession(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	const pid = "wLDDLyQ1aFOINNtGAAAP"
	s.MustDo(t, "SET", "sio:session:"+pid, "hKNzaWS0aHJ1RFJEbklWY2pJTG1LVkFBQU+jcGlktHdMRERMeVExYUZPSU5OdEdBQUFQpXJvb21zk7RocnVEUkRuSVZjaklMbUtWQUFBT6Vyb29tMQekZGF0YYKkbmFtZaNib2KjYWdlKg==", "PX", "120000")
	got, err := b.Take(t.Context(), pid)
	if err != nil {
		t.Fatal(err)
	}
	want := &recovery.Session{
		PID: pid, SID: "hruDRDnIVcjILmKVAAAO", Rooms: []string{"hruDRDnIVcjILmKVAAAO", "room1", "7"},
		Data: []byte(`{"name":"bob","age":42}`), Revision: got.Revision,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the session differs (- want, + got):\n%s", diff)
	}
	// What is stored begins with the four fields that Node.js reads, in its order.
	if err := b.Create(t.Context(), &recovery.Session{PID: "p", SID: "s", Rooms: []string{"s", "r"}, Data: []byte(`{"a":{"type":"Buffer","data":[1,2]}}`), Offset: "1-1"}, 1e9); err != nil {
		t.Fatal(err)
	}
	stored, err := base64.StdEncoding.DecodeString(s.MustDo(t, "GET", "sio:session:p").(string))
	if err != nil {
		t.Fatal(err)
	}
	begin := "\x86\xa3sid\xa1s\xa3pid\xa1p\xa5rooms\x92\xa1s\xa1r\xa4data\x81\xa1a\xc4\x02\x01\x02"
	if !strings.HasPrefix(string(stored), begin) {
		t.Errorf("got %q stored, want %q and more", stored, begin)
	}
	for _, bad := range []string{"", "x", "====", base64.StdEncoding.EncodeToString([]byte("\x81\xa3sid\xdf\xff\xff\xff\xff")), base64.StdEncoding.EncodeToString([]byte("\x80"))} {
		s.MustDo(t, "SET", "sio:session:bad", bad)
		if got, err := b.Take(t.Context(), "bad"); err == nil {
			t.Errorf("stored %q: got %+v, want an error", bad, got)
		}
	}
}

// FuzzDecode reads whatever somebody wrote.
func FuzzDecode(f *testing.F) {
	for _, w := range wireMessages(f) {
		if w.Channel == "" {
			f.Add("stream "+w.NSP, w.entry())
		} else {
			f.Add(w.Channel, w.Payload)
		}
	}
	d := redisstream.NewDialect(nil)
	f.Fuzz(func(t *testing.T, topic string, data []byte) {
		for _, node := range []string{"me", ""} {
			m, err := d.Decode(node, topic, data)
			if m != nil && err != nil {
				t.Fatalf("got a message and error %v", err)
			}
		}
	})
}
