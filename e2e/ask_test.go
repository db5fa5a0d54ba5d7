//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/cluster"
)

func TestAsk(t *testing.T) {
	for _, m := range media {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // they wait half of the time
			w := startWorld(t, m)
			for name, a := range w.askers() {
				t.Run(name, func(t *testing.T) { w.ask(t, a) })
			}
			t.Run("remote sockets", w.remotes)
			t.Run("count and rooms", w.counts)
			t.Run("a namespace", w.namespace)
		})
	}
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n%q, want\n%q", what, got, want)
	}
}

func (w *world) ask(t *testing.T, a asker) {
	ack := func(names ...string) (s []string) {
		for _, n := range names {
			s = append(s, text(object{"ack of": n, "bytes": []byte{1, 2}}))
		}
		return s
	}
	start := time.Now()
	equal := func(t testing.TB, what string, got, want []string) {
		t.Helper()
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("%s: got it after %v, want it at once: somebody was waited for", what, d)
		}
		equal(t, what, got, want)
		start = time.Now()
	}
	equal(t, "acks of all", a.askAll(t, who{}, "ask", 1, []byte("bin")), ack(everybody...))
	equal(t, "acks of a room", a.askAll(t, who{in: []string{"red"}}, "ask", object{"q": 1}), ack("a1", "b1", "j1"))
	equal(t, "acks without some", a.askAll(t, who{except: []string{"red"}}, "ask"), ack("b2", "j2"))
	equal(t, "acks of one there", a.askAll(t, who{in: []string{w.sids["j2"]}}, "ask"), ack("j2"))
	equal(t, "acks of one here", a.askAll(t, who{in: []string{w.sids["b2"]}}, "ask"), ack("b2"))
	equal(t, "acks of nobody", a.askAll(t, who{in: []string{"nobody"}}, "ask"), nil)
	w.clients.forget()

	sockets := func(names ...string) (s []string) {
		for _, n := range names {
			c := cast[n]
			s = append(s, describe(w.sids[n], append([]any{w.sids[n]}, c.rooms...), text(c.data)))
		}
		return s
	}
	equal(t, "all sockets", a.fetch(t, who{}), sockets(everybody...))
	equal(t, "sockets of rooms", a.fetch(t, who{in: []string{"red", "green"}, except: []string{"x y#*?"}}), sockets("b1", "j2"))
	equal(t, "no sockets", a.fetch(t, who{in: []string{"nobody"}}), nil)

	js := `{"from":"js","got":[{"n":1},"x"]}`
	want := []string{text(object{"from": "a"}), text(object{"from": "b"}), js, js}
	if a, ok := a.(goActor); ok {
		want = slices.DeleteFunc(want, func(s string) bool { return s == text(object{"from": a.name}) })
	} else {
		want = want[:3]
	}
	equal(t, "answers of servers", a.serverAsk(t, "question", object{"n": 1}, "x"), want)
	for _, n := range []*goNode{w.a, w.b} {
		for len(n.told) > 0 {
			<-n.told
		}
	}
}

// remotes has nodes act on sockets of the other kind that they fetched.
func (w *world) remotes(t *testing.T) {
	fetched := func(then string, more object) json.RawMessage {
		t.Helper()
		o := object{"sid": w.sids["b1"], "then": then}
		for k, v := range more {
			o[k] = v
		}
		return w.js.do(t, "fetched", o)
	}
	js, own := jsActor{w.js, ""}, goActor{w.a}
	w.clients.forget()
	fetched("emit", object{"event": "direct", "args": []any{5, []byte("b")}})
	if w.late {
		eventually(t, "an event at b1", func() bool { return len(w.clients.of("b1")) > 0 })
	}
	wantOnly(t, w.barrier(t, js, everybody...), []string{"b1"}, "direct("+text(5, []byte("b"))+")")
	if got, want := string(fetched("ask", object{"event": "direct", "args": []any{6}})), text(object{"ack of": "b1", "bytes": []byte{1, 2}}); got != want {
		t.Errorf("ack of a remote socket: got %s, want %s", got, want)
	}
	fetched("join", object{"names": []string{"solo"}})
	w.barrier(t, js, everybody...)
	own.emit(t, who{in: []string{"solo"}}, "in")
	wantOnly(t, w.barrier(t, own, everybody...), []string{"b1"}, "in()")
	fetched("leave", object{"names": []string{"solo"}})
	w.barrier(t, js, everybody...)
	own.emit(t, who{in: []string{"solo"}}, "in")
	wantOnly(t, w.barrier(t, own, everybody...), nil)

	for s, err := range w.a.srv.Of("/").Fetch(t.Context()) {
		check(t, err)
		if s.ID == w.sids["j2"] {
			check(t, s.Target().Join(t.Context(), "solo"))
			check(t, s.Target().Emit(t.Context(), "direct", "to j2"))
		}
	}
	wantOnly(t, w.barrier(t, own, everybody...), []string{"j2"}, `direct("to j2")`)
	js.emit(t, who{in: []string{"solo"}}, "in")
	wantOnly(t, w.barrier(t, js, everybody...), []string{"j2"}, "in()")
	own.leave(t, who{}, "solo")
}

func (w *world) counts(t *testing.T) {
	ns := w.a.srv.Of("/")
	for _, c := range []struct {
		target atoll.Target
		want   int
	}{
		{ns.To(), 5}, {ns.To("red"), 3}, {ns.To("red").Except("x y#*?"), 1}, {ns.Except("blue"), 2}, {ns.To("nobody"), 0}, {ns.To("7"), 2},
	} {
		if got, err := c.target.Count(t.Context()); got != c.want || err != nil {
			t.Errorf("Count: got %d and error %v, want %d", got, err, c.want)
		}
	}
	var want []string
	for name, c := range cast {
		want = append(want, w.sids[name])
		for _, r := range c.rooms {
			want = append(want, strings.Trim(text(r), `"`))
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	got, err := ns.To().Rooms(t.Context())
	slices.Sort(got)
	if !slices.Equal(got, want) || err != nil {
		t.Errorf("Rooms: got %q and error %v, want %q", got, err, want)
	}
	if w.adapter["kind"] != "classic" {
		return // the newer adapters of Node.js have no list of all rooms
	}
	var rooms []any
	check(t, json.Unmarshal(w.js.do(t, "rooms", nil), &rooms))
	if len(rooms) != len(want)+1 { // 7 is in it as a number and as text
		t.Errorf("allRooms of the Node.js node: got %v, want %d rooms", rooms, len(want)+1)
	}
}

// namespace checks that namespaces are apart.
func (w *world) namespace(t *testing.T) {
	w.clients.do(t, "connect", object{"name": "ca", "url": w.urls["b"] + "/chat", "auth": object{"rooms": []any{"red"}}})
	w.clients.do(t, "connect", object{"name": "cj", "url": w.urls["js"] + "/chat", "auth": object{"rooms": []any{"red"}}})
	if w.joined != nil {
		w.joined(t, "/chat", "red", 2)
	}
	for _, a := range []actor{goActor{w.a}, jsActor{w.js, ""}} {
		w.clients.forget()
		a.emit(t, who{nsp: "/chat", in: []string{"red"}}, "in chat", 1)
		for _, name := range []string{"ca", "cj"} {
			eventually(t, "event at "+name, func() bool { return slices.Equal(w.clients.of(name), []string{"in chat(1)"}) })
		}
		wantOnly(t, w.barrier(t, a, everybody...), nil)
	}
}

// TestRedisFrozenPeer stops the Node.js node: the others answer, and it is missing by number.
func TestRedisFrozenPeer(t *testing.T) {
	w := startWorld(t, classic)
	check(t, w.js.freeze())
	defer w.js.thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	var got []string
	var absent *cluster.AbsentError
	for s, err := range w.a.srv.Of("/").Fetch(ctx) {
		if err != nil {
			if !errors.As(err, &absent) {
				t.Fatalf("got error %v, want one with an AbsentError", err)
			}
			continue
		}
		got = append(got, s.ID)
	}
	want := []string{w.sids["a1"], w.sids["b1"], w.sids["b2"], w.sids["j2"]}
	slices.Sort(got)
	equal(t, "sockets", got, want)
	if absent == nil || absent.Unnamed != 1 || len(absent.Nodes) != 0 {
		t.Errorf("got %+v, want one node that is missing without a name", absent)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("got the end after %v, want it at the deadline of 500ms", d)
	}
}
