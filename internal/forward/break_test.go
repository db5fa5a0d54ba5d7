package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
)

// cuts are the ways in which what is between two nodes, or one of them, ends.
var cuts = map[string]func(t *testing.T, way string, a, b *site){
	"the way breaks": func(t *testing.T, way string, a, b *site) { breakWay(t, way, a, b, true) },
	"the owner says goodbye": func(_ *testing.T, _ string, _, b *site) {
		b.node.Close()
	},
	"the owner forwards no more": func(_ *testing.T, _ string, _, b *site) {
		go b.Peers.Close() // which waits for handlers
	},
	"the owner falls silent": func(_ *testing.T, _ string, _, b *site) {
		b.bus.SetDown(true)
	},
	"the asker says goodbye": func(_ *testing.T, _ string, a, _ *site) {
		a.node.Close()
	},
	"the asker forwards no more": func(_ *testing.T, _ string, a, _ *site) {
		go a.Peers.Close()
	},
}

// breakWay breaks the link from a to b, or loses a message between the two.
func breakWay(t *testing.T, way string, a, b *site, there bool) {
	t.Helper()
	x := a.view.Load().peers["b"]
	if way == "link" {
		x.mu.Lock()
		c := x.link.out.(wire)
		x.mu.Unlock()
		c.Conn.Close()
		return
	}
	var l *line
	if there {
		x.mu.Lock()
		l = &x.via.out.line
		x.mu.Unlock()
	} else {
		y := b.view.Load().peers["a"]
		y.mu.Lock()
		l = &y.inVia.in.line
		y.mu.Unlock()
	}
	var lost atomic.Bool
	a.hub.SetFault(func(from, to, topic string) membus.Fault {
		f := membus.Fault{Drop: strings.Contains(topic, ".node.") && (from == "a") == there && from != to}
		if f.Drop {
			lost.Store(true)
		}
		return f
	})
	l.say(kindPing, 0)
	eventually(t, "a message that is lost", lost.Load)
	a.hub.SetFault(nil)
	l.say(kindPing, 0) // the next message shows it
}

// TestBreaks has everything end at each step of a request.
func TestBreaks(t *testing.T) {
	for _, way := range both {
		for cut, f := range cuts {
			t.Run(way+"/"+cut, func(t *testing.T) {
				t.Parallel()
				testBreak(t, way, f)
			})
		}
		t.Run(way+"/the way back breaks", func(t *testing.T) {
			t.Parallel()
			testBreak(t, way, func(t *testing.T, way string, a, b *site) { breakWay(t, way, a, b, false) })
		})
	}
}

func testBreak(t *testing.T, way string, cut func(t *testing.T, way string, a, b *site)) {
	begun := make(chan string, 10)
	ended := make(chan string, 10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		step := r.Header.Get("X-Step")
		switch step {
		case "":
			io.WriteString(w, "here")
			return
		case "answering":
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
		case "stream":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack: %v", err)
				return
			}
			io.WriteString(c, accepted)
			begun <- step
			if _, err := c.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("stream at the owner: got error %v, want one that says that it broke", err)
			}
			c.Close()
			ended <- step
			return
		case "reading":
			begun <- step
			_, err := io.Copy(io.Discard, slow{r})
			if err == nil {
				t.Error("reading the body: got no error, want one")
			}
			ended <- step
			return
		}
		begun <- step
		<-r.Context().Done()
		ended <- step
	})
	a, b := pair(t, way, h, func(o *Options) {
		o.Answer = func(ctx context.Context, _, method string, _ []byte) ([]byte, error) {
			if method != "wait" {
				return nil, nil
			}
			begun <- "question"
			<-ctx.Done()
			ended <- "question"
			return nil, ctx.Err()
		}
		if o.MaxBody == 0 {
			o.MaxBody = 10 << 20
		}
	})
	type result struct{ step, got string }
	results := make(chan result, 10)
	request := func(step string, body io.Reader) {
		r, _ := http.NewRequest("GET", a.url+"/at/b/", body)
		r.Header.Set("X-Step", step)
		status, answer, _ := do(t, r)
		results <- result{step, fmt.Sprint(status, " ", answer)}
	}
	go request("waiting", nil)
	go request("answering", nil)
	go request("reading", bytes.NewReader(make([]byte, 5<<20)))
	go func() {
		_, err := a.Ask(context.Background(), "b", "wait", []byte("x"))
		results <- result{"question", fmt.Sprint(errors.Is(err, ErrAway) || errors.Is(err, ErrClosed))}
	}()
	go func() {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "GET /at/b/ HTTP/1.1\r\nHost: x\r\nX-Step: stream\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		_, err = br.ReadByte()
		var timeout net.Error
		results <- result{"stream", fmt.Sprint(res.StatusCode, " ", err != nil && !(errors.As(err, &timeout) && timeout.Timeout()))}
	}()
	const steps = 5
	for range steps {
		<-begun
	}
	cut(t, way, a, b)
	want := map[string]string{
		"waiting": "400 gone", "answering": "200 half and then unexpected EOF", "reading": "400 gone", "question": "true", "stream": "101 true",
	}
	for range steps {
		select {
		case r := <-results:
			if r.got != want[r.step] {
				t.Errorf("%s: got %q, want %q", r.step, r.got, want[r.step])
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("got no end at the asker of some; %d have ended at the owner\n%+v\n%+v", len(ended), a.Stats(), b.Stats())
		}
	}
	for range steps {
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("got no end at the owner of some\n%+v\n%+v", a.Stats(), b.Stats())
		}
	}
	settledDown(t, a)
	settledDown(t, b)
}

// slow reads a body slowly, so that its client cannot send all.
type slow struct{ r *http.Request }

func (s slow) Read(b []byte) (int, error) {
	n, err := s.r.Body.Read(b[:min(len(b), 100)])
	select {
	case <-s.r.Context().Done():
	case <-time.After(10 * time.Millisecond):
	}
	return n, err
}
