//go:build unix

package redisbus_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

// numbered are messages as nodes number them.
func numbered() []*cluster.Message {
	event := []byte(`["e",{"a":1}]`)
	sel := cluster.Selector{Rooms: []string{"r1", "7"}, Except: []string{"x"}}
	ops := []*cluster.Op{
		{Kind: cluster.Emit, Data: event},
		{Kind: cluster.Emit, Data: event, Selector: sel, Flags: cluster.Volatile | cluster.NoCompress},
		{Kind: cluster.JoinRooms, Selector: sel, Names: []string{"n"}},
		{Kind: cluster.LeaveRooms, Selector: sel, Names: []string{"n"}},
		{Kind: cluster.Disconnect, Close: true},
		{Kind: cluster.ServerEmit, Data: event},
		{Kind: cluster.EmitAck, Data: event, Selector: sel},
		{Kind: cluster.Fetch, Selector: sel},
		{Kind: cluster.Count},
		{Kind: cluster.Rooms},
		{Kind: cluster.ServerAsk, Data: event},
	}
	var ms []*cluster.Message
	for i, op := range ops {
		op.Namespace = "/chat"
		m := &cluster.Message{Kind: cluster.Tell, From: "a", Namespace: "/chat", Op: op, Life: 1<<64 - 1, Number: uint64(i) + 1<<40}
		if op.Kind.Asks() {
			m.Kind, m.Request = cluster.Ask, "question"
		}
		ms = append(ms, m)
	}
	return ms
}

// TestPlace carries the numbers of messages to Atoll nodes, in the format and beside it.
func TestPlace(t *testing.T) {
	d := redisbus.NewDialect(nil)
	for _, m := range numbered() {
		topic, data, err := d.Encode(m)
		if err != nil {
			t.Fatalf("%v: %v", m.Op.Kind, err)
		}
		got, err := d.Decode("b", topic, data)
		if err != nil {
			t.Fatalf("%v: %v", m.Op.Kind, err)
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v (- want, + got):\n%s", m.Op.Kind, diff)
		}
		if lane := d.Lane(m); lane != "/chat" || d.Lane(got) != lane {
			t.Errorf("%v: got lanes %q and %q, want /chat", m.Op.Kind, lane, d.Lane(got))
		}
		if own, err := d.Decode("a", topic, data); own != nil || err != nil {
			t.Errorf("%v: its sender reads %v and error %v, want nothing", m.Op.Kind, own, err)
		}
		if all, err := d.Decode("", topic, data); all == nil || err != nil {
			t.Errorf("%v: read for nobody: got %v and error %v, want the message", m.Op.Kind, all, err)
		}

		if m.Kind == cluster.Tell {
			m.To, m.ToLife = "b", 7
			topic, data, err := d.Encode(m)
			if err != nil || !slices.Contains(d.Topics("b", ""), topic) {
				t.Errorf("%v for one node: got topic %q and error %v, want one of %q", m.Op.Kind, topic, err, d.Topics("b", ""))
			}
			got, err := d.Decode("b", topic, data)
			if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("%v for one node, error %v (- want, + got):\n%s", m.Op.Kind, err, diff)
			}
		}
	}
	for _, bad := range []string{`[1]`, `[0,1]`, `[1,0]`, `[1,2,3]`, `["1",2]`, `1`, `[1,-2]`} {
		data := fmt.Sprintf(`{"uid":"u","type":2,"opts":{"rooms":[],"except":[]},"rooms":["n"],"atoll":%s}`, bad)
		if _, err := d.Decode("b", "socket.io-request#/#", []byte(data)); err == nil {
			t.Errorf("place %s: got no error, want one", bad)
		}
	}
}

// A watcher notes what an observer sees.
type watcher struct {
	mu  sync.Mutex
	ops []string
}

func (w *watcher) Do(op *cluster.Op, _ func(cluster.Answer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops = append(w.ops, fmt.Sprint(op.Kind, " ", op.Namespace))
}

// TestObserver: one that watches sees the operations of all namespaces, and is not counted.
func TestObserver(t *testing.T) {
	s := redistest.Start(t)
	join := func(o *cluster.Options) (*cluster.Node, *redisbus.Bus) {
		o.Logger = quiet
		b := open(t, s, &redisbus.Options{Logger: quiet})
		n, err := cluster.Join(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n, b
	}
	a, bus := join(&cluster.Options{})
	w := &watcher{}
	watching, _ := join(&cluster.Options{Observer: true})
	if err := watching.Attach(w); err != nil {
		t.Fatal(err)
	}
	namespaces := []string{"/", "/a[b]", "/a#b", "/a"}
	var want []string
	for _, nsp := range namespaces {
		if err := a.Open(t.Context(), nsp); err != nil {
			t.Fatal(err)
		}
		for _, op := range []*cluster.Op{
			{Kind: cluster.Emit, Namespace: nsp, Data: []byte(`["e"]`), Selector: cluster.Selector{Rooms: []string{"r"}}},
			{Kind: cluster.Emit, Namespace: nsp, Data: []byte(`["e"]`)},
			{Kind: cluster.ServerEmit, Namespace: nsp, Data: []byte(`["e"]`)},
		} {
			if err := a.Tell(t.Context(), op); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(op.Kind, " ", nsp))
		}
	}
	seen := func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.ops)
	}
	eventually(t, "all operations", func() bool { return len(seen()) >= len(want) })
	if got := seen(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, nsp := range namespaces {
		if n, err := redisbus.NewDialect(nil).Expect(context.Background(), bus, a.ID(), nsp); n != 0 || err != nil {
			t.Errorf("%s: got %d others who answer and error %v, want none", nsp, n, err)
		}
	}
	if got := len(a.Peers()); got != 0 {
		t.Errorf("got %d peers, want none", got)
	}
}
