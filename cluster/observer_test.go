package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

func observing(o *cluster.Options) { o.Observer = true }

func TestObserver(t *testing.T) {
	simulate(t, "it is no member, and knows the members", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		o := join(t, hub, "o", observing)
		if got := o.peers(); got != "a b" {
			t.Errorf("the observer's peers: got %q, want a and b", got)
		}
		time.Sleep(10 * time.Second)
		o.Close()
		for _, s := range []*site{a, b} {
			if got := s.peers(); strings.Contains(got, "o") {
				t.Errorf("got peers %q, want no observer", got)
			}
			if got := s.history(); strings.Contains(got, "o") {
				t.Errorf("OnMember: got %q, want nothing of the observer", got)
			}
		}
	})
	simulate(t, "it asks, and nobody waits for it", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		o := join(t, hub, "o", observing)
		for _, kind := range []cluster.Kind{cluster.Count, cluster.EmitAck, cluster.Fetch} {
			want := map[bool]int{true: 4, false: 2}[kind == cluster.EmitAck || kind == cluster.Fetch]
			if kind == cluster.Fetch { // the site promises a part that it does not send
				for _, s := range []*site{a, b} {
					s.do = func(op *cluster.Op, answer func(cluster.Answer)) { answer(cluster.Answer{First: true}) }
				}
				want = 2
			}
			if n, took, err := o.ask(t, time.Second, kind); n != want || err != nil || took > 100*time.Millisecond {
				t.Errorf("%v: got %d answers, %v, %v; want %d at once", kind, n, took, err, want)
			}
		}
		if n, took, err := a.ask(t, time.Second, cluster.Count); n != 1 || err != nil || took > 100*time.Millisecond {
			t.Errorf("a member's question: got %d answers, %v, %v; want 1 at once", n, took, err)
		}
	})
	simulate(t, "it hears what is told and asked, and answers nothing", func(t *testing.T, hub *membus.Hub) {
		var seen []string
		a, b := join(t, hub, "a"), join(t, hub, "b")
		o := join(t, hub, "o", observing, func(o *cluster.Options) {
			o.OnMessage = func(m *cluster.Message) { seen = append(seen, fmt.Sprint(m.Kind, m.From)) }
		})
		o.do = func(op *cluster.Op, answer func(cluster.Answer)) {
			if answer != nil {
				t.Errorf("%v: got a function to answer with, want none", op.Kind)
			}
		}
		a.emit(t, "1")
		if _, _, err := b.ask(t, time.Second, cluster.Count); err != nil {
			t.Error(err)
		}
		if got := o.received(); len(got) != 2 {
			t.Errorf("got %q, want two operations", got)
		}
		o.Loop(func() {
			for _, want := range []string{"1id-a", "2id-b", "4id-a", "4id-b"} {
				if !slices.Contains(seen, want) {
					t.Errorf("OnMessage: got %v, want %s among them", seen, want)
				}
			}
		})
	})
	simulate(t, "it sees what is routed, unless it says that it need not", func(t *testing.T, hub *membus.Hub) {
		route := func(o *cluster.Options) { o.RouteRooms = true }
		a, b := join(t, hub, "a", route), join(t, hub, "b", route)
		_ = b
		synctest.Wait()
		emit := func(data string) {
			op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data), Selector: cluster.Selector{Rooms: []string{"r"}}}
			if err := a.Tell(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		content := join(t, hub, "content", observing, route)
		emit("1")
		if got := content.received(); len(got) != 0 {
			t.Errorf("got %q, want nothing", got)
		}
		o := join(t, hub, "o", observing)
		time.Sleep(1100 * time.Millisecond)
		emit("2")
		if got := o.received(); len(got) != 1 || got[0] != "2" {
			t.Errorf("got %q, want what is for one room", got)
		}
		if got := b.received(); len(got) != 1 {
			t.Errorf("at b: got %q, want 2 only", got)
		}
		o.Close()
		time.Sleep(5 * time.Second)
		emit("3")
		if got := b.received(); len(got) != 1 {
			t.Errorf("when the observer is gone: got %q, want no more", got)
		}
	})
}

// watchable is the old dialect, in which an observer is not counted.
type watchable struct{ old }

func (watchable) ObserverTopics(node, namespace string) []string {
	if namespace == "" {
		return []string{"atoll"}
	}
	return []string{"response" + namespace, "response" + namespace + "#" + node}
}

func TestObserverUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newOldCluster(t, watchable{})
		o := &site{bus: membus.New(&c.hub, &membus.Options{Name: "o"})}
		var err error
		o.Node, err = cluster.Join(t.Context(), countedBus{o.bus, &c.counter, watchable{}}, &cluster.Options{ID: "id-o", Observer: true})
		if err != nil {
			t.Fatal(err)
		}
		defer o.bus.Close()
		defer o.Close()
		if n, took, err := o.ask(t, time.Second, cluster.Count); n != 3 || err != nil || took > 100*time.Millisecond {
			t.Errorf("the observer's question: got %d answers, %v, %v; want 3 at once", n, took, err)
		}
		if n, took, err := c.a.ask(t, time.Second, cluster.Count); n != 2 || err != nil || took > 100*time.Millisecond {
			t.Errorf("a member's question: got %d answers, %v, %v; want 2 at once", n, took, err)
		}
	})
}

func TestParts(t *testing.T) {
	part := func(id string) cluster.Answer { return cluster.Answer{Sockets: []cluster.SocketInfo{{ID: id}}} }
	simulate(t, "are yielded as they come, and all waited for", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		if !a.Parts() {
			t.Fatal("Parts: got false, want true for Native")
		}
		fields := cluster.Fields(0)
		b.do = func(op *cluster.Op, answer func(cluster.Answer)) {
			fields = op.Fields
			answer(cluster.Answer{First: true, Clients: 3, Sockets: []cluster.SocketInfo{{ID: "0"}}})
			for i := range 3 {
				time.AfterFunc(time.Duration(i+1)*time.Second, func() { answer(part(fmt.Sprint(i + 1))) })
			}
		}
		var got []string
		start := time.Now()
		for ans, err := range a.Ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/", Fields: cluster.FieldID | cluster.FieldRooms}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ans.Sockets {
				got = append(got, fmt.Sprintf("%s@%v", s.ID, time.Since(start)))
			}
		}
		if want := "0@0s 1@1s 2@2s 3@3s"; strings.Join(got, " ") != want {
			t.Errorf("got %v, want %s", got, want)
		}
		if fields.Has(cluster.FieldHandshake) || !fields.Has(cluster.FieldRooms) {
			t.Errorf("got fields %b, want rooms only", fields)
		}
	})
	simulate(t, "that do not come make the node absent", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		b.do = func(op *cluster.Op, answer func(cluster.Answer)) {
			answer(cluster.Answer{First: true, Clients: 2})
			answer(part("1"))
		}
		n, took, err := a.ask(t, time.Second, cluster.Fetch)
		absent, _ := err.(*cluster.AbsentError)
		if n != 2 || took != time.Second || absent == nil || len(absent.Nodes) != 1 || absent.Acks != 0 {
			t.Errorf("got %d answers, %v, %#v; want 2, and b absent after a second", n, took, err)
		}
	})
	simulate(t, "of a node that dies", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		b.do = func(op *cluster.Op, answer func(cluster.Answer)) {
			answer(cluster.Answer{First: true, Clients: 2})
			time.AfterFunc(time.Second, func() { b.bus.SetDown(true) })
		}
		n, took, err := a.ask(t, time.Minute, cluster.Fetch)
		if n != 1 || took > 5*time.Second || err == nil {
			t.Errorf("got %d answers, %v, %v; want 1 and an error when b is dead", n, took, err)
		}
	})
}

func TestForgedAnnouncements(t *testing.T) {
	simulate(t, "do not fill memory", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		bus := membus.New(hub, nil)
		defer bus.Close()
		const forged = 6000
		for i := range forged {
			topic, data, err := cluster.Native("").Encode(&cluster.Message{
				Kind: cluster.Heartbeat, From: fmt.Sprint("x", i), Life: 1,
				Member: &cluster.Member{Name: strings.Repeat("n", 1000), Started: time.Now()},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := bus.Publish(t.Context(), topic, data); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s := a.Stats()
		if s.Peers != 4096 || s.Refused != forged+1-4096 {
			t.Errorf("got %d peers and %d refused, want 4096 and %d", s.Peers, s.Refused, forged+1-4096)
		}
		for _, p := range a.Peers() {
			if len(p.Name) > 256 {
				t.Errorf("got a name of %d bytes, want at most 256", len(p.Name))
			}
		}
		time.Sleep(10 * time.Second)
		if got := a.peers(); got != "b" {
			t.Errorf("got peers %q, want b", got)
		}
		if n, _, err := a.ask(t, time.Second, cluster.Count); n != 1 || err != nil {
			t.Errorf("got %d answers and %v, want b's", n, err)
		}
		_ = b
	})
}

func TestOnLeave(t *testing.T) {
	simulate(t, "tells how a member went", func(t *testing.T, hub *membus.Hub) {
		var a *site
		a = join(t, hub, "a", func(o *cluster.Options) {
			o.OnLeave = func(m cluster.Member, died bool) { a.note("%s-died:%v", m.Name, died) }
		})
		b, c := join(t, hub, "b"), join(t, hub, "c")
		b.Close()
		c.bus.SetDown(true)
		time.Sleep(5 * time.Second)
		if got, want := a.history(), "+b +c b-died:false -b c-died:true -c"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Memory, not bytes on the wire, is what MaxQueue limits.
func TestQueueWeighs(t *testing.T) {
	simulate(t, "what decoding blows up", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		hold := make(chan struct{})
		b := join(t, hub, "b", func(o *cluster.Options) { o.MaxQueue, o.RepairWait = 1<<20, -1 })
		b.do = func(*cluster.Op, func(cluster.Answer)) { <-hold }
		many := make([]string, 10_000) // 10 kB on the wire, 160 in memory
		for range 20 {
			if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.JoinRooms, Namespace: "/", Names: many}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := b.Stats().Waiting; got > 1<<20 {
			t.Errorf("got %d bytes that wait, want at most 1 MiB", got)
		}
		close(hold)
		synctest.Wait()
	})
}
