package forward

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atollhq/atoll/adapter/membus"
)

// A drain is a pipe whose other end takes everything.
type drain struct{}

func (drain) write([]byte) error { return nil }
func (drain) close(error)        {}

// frames are some of every kind, as both ends say them.
func frames() [][]byte {
	r := httptest.NewRequest("POST", "/socket.io/?EIO=4&sid=x%20", strings.NewReader("x"))
	r.Header.Set("Upgrade", "websocket")
	r.Header["X"] = []string{"1", "", "3"}
	head := func(flags byte, body string) []byte {
		b := appendRequest(appendFrame(nil, kindHead, 7), r, flags, 1, nil)
		return endFrame(append(b, body...), 0)
	}
	raise := head(flagHijack|flagEnd, "")
	return [][]byte{
		head(flagEnd, "body"), head(0, "the first"), head(flagEnd|flagBroken|flagTLS, ""), raise,
		append(raise, appendBody(nil, 7, 0, []byte("raw"))...),
		append(head(0, ""), append(appendBody(nil, 7, flagEnd, []byte("rest")), appendCredit(nil, 7, 1)...)...),
		append(head(0, ""), appendEmpty(nil, kindAbort, 7)...),
		appendCredit(nil, 7, window), appendEmpty(nil, kindPing, 0), appendAskFrame(nil, 9, "method", []byte("body")),
		appendAnswerFrame(nil, 1, flagEnd, 200, http.Header{"A": {"b", "c"}}, []byte("ok")),
		append(appendAnswerFrame(nil, 1, flagFlush, 200, nil, nil), appendBody(nil, 1, flagEnd|flagFlush, []byte("more"))...),
		appendAnswerFrame(nil, 1, flagRaw, 0, nil, []byte("101")),
		endFrame(append(appendFrame(nil, kindAsk, 2), "\x00answer"...), 0),
		binary.BigEndian.AppendUint32(nil, 1<<31), make([]byte, 40),
	}
}

// FuzzFrames has both ends of a line read what anybody may send, and the carrier's messages too.
func FuzzFrames(f *testing.F) {
	for _, b := range frames() {
		f.Add(b, uint8(3))
		f.Add(append(binary.BigEndian.AppendUint64([]byte{mailVersion, mailAsks, 0, 0, 0, 0, 0, 0, 0, 1}, 1), b...), uint8(200))
	}
	for kind := range byte(7) {
		f.Add(append([]byte{mailVersion, kind}, make([]byte, 40)...), uint8(0))
	}
	hub := new(membus.Hub)
	taking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Write([]byte("101"))
			c.Close()
			return
		}
		w.Write([]byte(r.URL.Path))
	})
	a, b := newSite(f, hub, "a", nil, taking), newSite(f, hub, "b", nil, taking)
	know(f, a, b)
	x := a.view.Load().peers["b"]
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		in := newInbound(a.Peers, x, drain{})
		out := newOutbound(a.Peers, x, drain{}, false)
		for i := range 3 {
			c, err := out.begin()
			if err != nil {
				t.Fatal(err)
			}
			c.asks = i == 1
			out.release(false)
		}
		k := int(step) + 1
		for _, end := range []struct {
			l      *line
			handle func(frame) error
		}{{&in.line, in.frame}, {&out.line, out.frame}} {
			var p parser
			for rest := data; len(rest) > 0; {
				n := min(k, len(rest))
				if err := p.feed(rest[:n], end.handle); err != nil {
					end.l.fail(err)
					break
				}
				rest = rest[n:]
			}
			end.l.fail(errBroken)
			if n := end.l.unread.Load(); n > int64(len(data)) {
				t.Errorf("got %d bytes unread, of %d", n, len(data))
			}
		}
		a.read("b", data)
		a.read("nobody", data)
	})
}

// TestParser cuts a sequence of frames at every place.
func TestParser(t *testing.T) {
	var all []byte
	var want []string
	for _, b := range frames()[:13] {
		all = append(all, b...)
	}
	collect := func(to *[]string) func(frame) error {
		return func(f frame) error {
			*to = append(*to, string(f.kind)+string(binary.BigEndian.AppendUint32(nil, f.id))+string(f.payload))
			return nil
		}
	}
	if err := new(parser).feed(all, collect(&want)); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < 50; cut++ {
		var p parser
		var got []string
		for rest := all; len(rest) > 0; {
			n := min(cut, len(rest))
			part := append([]byte(nil), rest[:n]...)
			if err := p.feed(part, collect(&got)); err != nil {
				t.Fatal(err)
			}
			clear(part)
			rest = rest[n:]
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("in pieces of %d bytes: got %d other frames, want %d", cut, len(got), len(want))
		}
	}
}
