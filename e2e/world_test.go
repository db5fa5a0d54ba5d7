//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/emitter"
)

// A world is a cluster of two Atoll nodes and two Node.js nodes on a medium of its own, with
// clients on all of them and emitters of both kinds.
type world struct {
	*place
	js, js2 *peer // the Node.js nodes
	clients *peer // all clients, and the official emitter
	a, b    *goNode
	urls    map[string]string // of the nodes
	sids    map[string]string

	barriers int
}

// The clients, with where they are connected and the rooms they are in.
var cast = map[string]struct {
	node  string
	rooms []any
	data  any
}{
	"a1": {"a", []any{"red", "x y#*?"}, object{"name": "ann"}},
	"b1": {"b", []any{"red", "blue"}, object{"name": "bob"}},
	"b2": {"b", []any{"blue", "7"}, object{"name": "bea"}},
	"j1": {"js", []any{"red", 7, "x y#*?"}, object{"name": "jim"}},
	"j2": {"js2", []any{"blue", "green"}, object{"name": "joe"}},
}

func startWorld(t testing.TB, m medium) *world {
	t.Helper()
	need(t)
	w := &world{place: m.start(t), sids: make(map[string]string), urls: make(map[string]string)}
	w.js, w.js2, w.clients = startPeer(t), startPeer(t), startPeer(t)
	for name, js := range map[string]*peer{"js": w.js, "js2": w.js2} {
		var served struct{ Port int }
		if err := json.Unmarshal(js.do(t, "serve", object{"adapter": w.adapter, "namespaces": []string{"/", "/chat"}}), &served); err != nil {
			t.Fatal(err)
		}
		w.urls[name] = fmt.Sprintf("http://127.0.0.1:%d", served.Port)
	}
	w.a = startNode(t, "a", w.bus(t), "/chat")
	w.b = startNode(t, "b", w.bus(t), "/chat")
	w.urls["a"], w.urls["b"] = w.a.url, w.b.url
	eventually(t, "two Atoll nodes that know each other", func() bool {
		return len(w.a.node.Peers()) == 1 && len(w.b.node.Peers()) == 1
	})
	for name := range cast {
		w.connect(t, name)
	}
	w.warm(t)
	return w
}

// warm waits until the Node.js nodes hear what others send: on streams they miss what comes before their first read.
func (w *world) warm(t testing.TB) {
	t.Helper()
	own, last := goActor{w.a}, time.Time{}
	eventually(t, "Node.js nodes that hear", func() bool {
		if time.Since(last) > 50*time.Millisecond {
			own.emit(t, who{}, "warm")
			last = time.Now()
		}
		return slices.Contains(w.clients.of("j1"), "warm()") && slices.Contains(w.clients.of("j2"), "warm()")
	})
	w.barrier(t, own, everybody...)
}

// connect connects a client of the cast.
func (w *world) connect(t testing.TB, name string) {
	t.Helper()
	c := cast[name]
	var got struct{ SID string }
	r := w.clients.do(t, "connect", object{
		"name": name, "url": w.urls[c.node], "auth": object{"rooms": c.rooms, "data": c.data},
		"answer": object{"ack of": name, "bytes": []byte{1, 2}},
	})
	if err := json.Unmarshal(r, &got); err != nil {
		t.Fatal(err)
	}
	w.sids[name] = got.SID
}

// actors are all who can tell the cluster something.
func (w *world) actors(t testing.TB) map[string]actor {
	all := map[string]actor{
		"atoll node":    goActor{w.a},
		"node.js node":  jsActor{w.js, ""},
		"atoll emitter": goEmitter{emitter.New(w.bus(t), nil)},
	}
	if w.emitter {
		w.clients.do(t, "emitter.open", object{"adapter": w.adapter})
		all["official emitter"] = jsActor{w.clients, "emitter."}
	}
	return all
}

func (w *world) askers() map[string]asker {
	return map[string]asker{"atoll node": goActor{w.a}, "node.js node": jsActor{w.js, ""}}
}

// barrier has act emit to all, waits until all the named clients got it, and returns what
// each got before, and forgets it.
func (w *world) barrier(t testing.TB, act actor, names ...string) map[string][]string {
	t.Helper()
	w.barriers++
	mark := fmt.Sprintf("barrier(%d)", w.barriers)
	act.emit(t, who{}, "barrier", w.barriers)
	got := make(map[string][]string)
	for _, name := range names {
		eventually(t, mark+" at "+name, func() bool { return slices.Contains(w.clients.of(name), mark) })
		all := w.clients.of(name)
		got[name] = all[:slices.Index(all, mark)]
	}
	w.clients.forget()
	return got
}

var everybody = []string{"a1", "b1", "b2", "j1", "j2"}

// wantOnly checks that exactly the named clients got exactly these events.
func wantOnly(t testing.TB, got map[string][]string, names []string, events ...string) {
	t.Helper()
	for name, g := range got {
		want := events
		if !slices.Contains(names, name) {
			want = nil
		}
		if !slices.Equal(g, want) {
			t.Errorf("client %s: got %q, want %q", name, g, want)
		}
	}
}

func TestTell(t *testing.T) {
	for _, m := range media {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // they wait half of the time
			w := startWorld(t, m)
			for name, act := range w.actors(t) {
				t.Run(name, func(t *testing.T) { w.tell(t, act) })
			}
		})
	}
}

func (w *world) tell(t *testing.T, act actor) {
	nested := object{"list": []any{[]byte{0, 255, 1}, object{"deep": []byte("x")}}, "n": 1.5}
	for _, c := range []struct {
		to   who
		args []any
		want string
	}{
		{who{}, []any{"text", 1, -2.5, nil, true, object{"a": []any{1, "b"}}}, "a1 b1 b2 j1 j2"},
		{who{}, nil, "a1 b1 b2 j1 j2"},
		{who{in: []string{"red"}}, []any{1}, "a1 b1 j1"},
		{who{in: []string{"red", "blue"}}, []any{2}, "a1 b1 b2 j1 j2"},
		{who{in: []string{"red", "blue"}, except: []string{"green", "x y#*?"}}, []any{3}, "b1 b2"},
		{who{except: []string{"blue"}}, []any{4}, "a1 j1"},
		{who{in: []string{"x y#*?"}}, []any{"odd room"}, "a1 j1"},
		{who{in: []string{"nobody"}}, []any{"nobody"}, ""},
		{who{volatile: true}, []any{"volatile"}, "a1 b1 b2 j1 j2"},
		{who{in: []string{w.sids["b2"]}}, []any{"private"}, "b2"},
		{who{in: []string{w.sids["j2"]}}, []any{"private"}, "j2"},
		{who{in: []string{"blue"}}, []any{[]byte("bytes"), nested}, "b1 b2 j2"},
		{who{}, []any{"grüße \U0001F389 \u0001 \"quoted\" <&>"}, "a1 b1 b2 j1 j2"},
		{who{}, []any{strings.Repeat("long ", 40_000), make([]byte, 100_000)}, "a1 b1 b2 j1 j2"},
	} {
		act.emit(t, c.to, "e", c.args...)
		if w.late {
			for name := range strings.FieldsSeq(c.want) {
				eventually(t, "an event at "+name, func() bool { return len(w.clients.of(name)) > 0 })
			}
		}
		got := w.barrier(t, act, everybody...)
		wantOnly(t, got, strings.Fields(c.want), "e("+text(c.args...)+")")
	}

	// A room that is a number for Node.js is in reach of ours, and a number of theirs of ours.
	act.emit(t, who{in: []string{"7"}}, "seven")
	want := []string{"b2", "j1"}
	if _, js := act.(jsActor); js {
		want = []string{"b2"} // it means the text
	}
	wantOnly(t, w.barrier(t, act, everybody...), want, "seven()")

	// Rooms are joined and left from afar.
	act.join(t, who{in: []string{"blue"}, except: []string{"green"}}, "new", "newer")
	w.barrier(t, act, everybody...)
	act.emit(t, who{in: []string{"newer"}}, "in")
	wantOnly(t, w.barrier(t, act, everybody...), []string{"b1", "b2"}, "in()")
	act.leave(t, who{in: []string{w.sids["b1"]}}, "new", "newer")
	w.barrier(t, act, everybody...)
	act.emit(t, who{in: []string{"newer"}}, "in")
	wantOnly(t, w.barrier(t, act, everybody...), []string{"b2"}, "in()")
	act.leave(t, who{}, "new", "newer")
	act.join(t, who{in: []string{w.sids["j2"]}}, "js room")
	w.barrier(t, act, everybody...)
	act.emit(t, who{in: []string{"js room", "new", "newer"}}, "in")
	wantOnly(t, w.barrier(t, act, everybody...), []string{"j2"}, "in()")
	act.leave(t, who{}, "js room")

	w.tellServers(t, act)

	// Disconnected from afar.
	for _, name := range []string{"b2", "j2"} {
		act.disconnect(t, who{in: []string{w.sids[name]}}, name == "j2")
		eventually(t, "disconnect of "+name, func() bool {
			return slices.Contains(w.clients.of(name), "disconnect: io server disconnect")
		})
		others := slices.DeleteFunc(slices.Clone(everybody), func(s string) bool { return s == name })
		wantOnly(t, w.barrier(t, act, others...), nil)
		w.connect(t, name)
	}
	wantOnly(t, w.barrier(t, act, everybody...), nil)
}

// tellServers checks server-side events, which the sender does not get itself.
func (w *world) tellServers(t *testing.T, act actor) {
	w.js.forget()
	w.js2.forget()
	bytes := []byte{9, 8}
	act.serverEmit(t, "note", object{"n": 1}, "x", bytes)
	want := "note(" + text(object{"n": 1}, "x", bytes) + ")"
	for _, n := range []*goNode{w.a, w.b} {
		if a, ok := act.(goActor); ok && a.goNode == n {
			continue
		}
		if got := <-n.told; got != want {
			t.Errorf("node %s: got %s, want %s", n.name, got, want)
		}
	}
	if w.plain {
		want = strings.Replace(want, text(bytes), `{"type":"Buffer","data":[9,8]}`, 1) // as Node.js nodes tell each other
	}
	for _, js := range []*peer{w.js, w.js2} {
		if a, ok := act.(jsActor); ok && a.peer == js {
			continue
		}
		eventually(t, "note at a Node.js node", func() bool { return len(js.of("/")) > 0 })
		if got := js.of("/"); len(got) != 1 || got[0] != want {
			t.Errorf("Node.js node: got %q, want %q", got, want)
		}
	}
}
