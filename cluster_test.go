package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// greet has clients say which rooms they want.
func greet(_ string, srv *atoll.Server) {
	srv.Of("/").OnConnect(func(_ context.Context, s *atoll.Socket) error {
		var auth struct {
			Name  string
			Rooms []string
		}
		if err := s.Auth(&auth); err != nil {
			return err
		}
		s.SetData(auth.Name)
		s.Join(auth.Rooms...)
		return nil
	})
}

func join(t *testing.T, n *atolltest.Node, r *record, name string, rooms ...string) *client.Socket {
	t.Helper()
	sock := n.New(t, "/", &client.Options{Auth: map[string]any{"name": name, "rooms": rooms}, DisableReconnect: true})
	r.hear(name, sock)
	client.Answer(sock, "who", func(context.Context, event.None) (string, error) { return name, nil })
	sock.Handle("silence", func(context.Context, *client.Event) error { return nil })
	sock.OnDisconnect(func(cause *client.DisconnectError) { r.add("%s: %s", name, cause.Reason) })
	if err := sock.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sock
}

func TestClusterOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 3, greet)
		a := join(t, n[0], &r, "a", "red")
		b := join(t, n[1], &r, "b", "red", "blue")
		c := join(t, n[2], &r, "c", "blue")
		ns := n[0].Of("/")
		ctx := t.Context()
		sorted := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			r.mu.Lock()
			slices.Sort(r.lines)
			r.mu.Unlock()
			r.want(t, lines...)
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}

		check(ns.Emit(ctx, "x", 1, []byte{2}))
		sorted(`a: x[1,{"_placeholder":true,"num":0}]`, `b: x[1,{"_placeholder":true,"num":0}]`, `c: x[1,{"_placeholder":true,"num":0}]`)
		check(ns.To("red").Except("blue").Emit(ctx, "x"))
		sorted("a: x[]")
		check(ns.To(c.ID()).Emit(ctx, "x"))
		sorted("c: x[]")
		check(ns.Local().Emit(ctx, "x"))
		sorted("a: x[]")

		check(ns.In("blue").Join(ctx, "green"))
		check(ns.To("green").Emit(ctx, "x"))
		sorted("b: x[]", "c: x[]")
		check(ns.In("red").Leave(ctx, "green"))
		check(ns.To("green").Emit(ctx, "x"))
		sorted("c: x[]")

		if got, err := ns.In("red", "green").Count(ctx); got != 3 || err != nil {
			t.Errorf("count: got %d and error %v, want 3", got, err)
		}
		rooms, err := n[1].Of("/").Local().Rooms(ctx)
		slices.Sort(rooms)
		if want := []string{b.ID(), "blue", "red"}; err != nil || len(rooms) != 3 || !slices.Contains(rooms, "red") || !slices.Contains(rooms, "blue") || !slices.Contains(rooms, want[0]) {
			t.Errorf("local rooms: got %v and error %v, want %v", rooms, err, want)
		}
		var found []string
		for s, err := range ns.In("blue").Fetch(ctx) {
			check(err)
			var name string
			var h struct{ Headers map[string]string }
			check(errors.Join(s.Data(&name), s.Handshake(&h)))
			if h.Headers["connection"] == "" {
				t.Errorf("handshake of %s: got headers %v, want those of the request", name, h.Headers)
			}
			found = append(found, name+" on "+s.Node+" in "+strings.Join(s.Rooms[1:], ","))
		}
		slices.Sort(found)
		if want := []string{"b on " + n[1].Cluster.ID() + " in red,blue", "c on " + n[2].Cluster.ID() + " in blue,green"}; !slices.Equal(found, want) {
			t.Errorf("fetch: got %q, want %q", found, want)
		}

		var names []string
		for name, err := range event.Request[event.None, string]("who").AskAll(ctx, ns, event.None{}) {
			check(err)
			names = append(names, name)
		}
		slices.Sort(names)
		if got := strings.Join(names, ""); got != "abc" {
			t.Errorf("acks of all: got %q, want abc", got)
		}
		sorted("a: who[]", "b: who[]", "c: who[]")

		check(ns.In("blue").Disconnect(ctx, false))
		sorted("b: io server disconnect", "c: io server disconnect")
		_ = a
	})
}

func TestServerSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 3, func(name string, srv *atoll.Server) {
			atoll.OnServer(srv.Of("/"), "note", func(_ context.Context, v event.Two[string, int]) error {
				r.add("%s: %s %d", name, v.A, v.B)
				return nil
			})
			atoll.AnswerServer(srv.Of("/"), "name", func(context.Context, event.None) (string, error) {
				if name == "node3" {
					return "", &atoll.ReplyError{Args: []any{"not " + name}}
				}
				return name, nil
			})
		})
		s := n[0].Of("/").ServerSide()
		for i := range 3 {
			if err := s.Emit(t.Context(), "note", "n", i); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		slices.Sort(r.lines)
		r.want(t, "node2: n 0", "node2: n 1", "node2: n 2", "node3: n 0", "node3: n 1", "node3: n 2")
		var got []string
		for name, err := range event.Request[event.None, string]("name").AskAll(t.Context(), s, event.None{}) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if want := []string{"node2", "not node3"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A frozen node out of three: every question brings the answers of the others, by its
// deadline or sooner, and names the node that is missing.
func TestFrozenNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 3, greet)
		for i, name := range []string{"a", "b", "c"} {
			join(t, n[i], &r, name)
		}
		ns := n[0].Of("/")
		n[2].Bus.Freeze()
		defer n[2].Bus.Thaw()

		missing := func(what string, err error) {
			t.Helper()
			p, ok := errors.AsType[*atoll.PartialError](err)
			a, ok2 := errors.AsType[*cluster.AbsentError](err)
			if !ok || !ok2 || len(a.Nodes) != 1 || !strings.Contains(a.Nodes[0], "node3") {
				t.Errorf("%s: got error %v (%v), want one that names node3", what, err, p)
			}
		}
		within := func(what string, begin time.Time) {
			t.Helper()
			if d := time.Since(begin); d > time.Second {
				t.Errorf("%s: took %v, want 1s at most", what, d)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		var names []string
		var last error
		for name, err := range event.Request[event.None, string]("who").AskAll(ctx, ns, event.None{}) {
			if err != nil {
				last = err
				continue
			}
			names = append(names, name)
		}
		slices.Sort(names)
		if got := strings.Join(names, ""); got != "ab" {
			t.Errorf("acks: got %q, want ab", got)
		}
		missing("acks", last)
		within("acks", begin)

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		count, err := ns.Count(ctx)
		if count != 2 {
			t.Errorf("count: got %d, want 2", count)
		}
		missing("count", err)
		within("count", begin)

		time.Sleep(10 * time.Second) // dead by now: nobody waits for it
		begin = time.Now()
		if count, err := ns.Count(t.Context()); count != 2 || err != nil {
			t.Errorf("count after its death: got %d and error %v, want 2", count, err)
		}
		within("count after its death", begin)
	})
}

// Clients that do not answer, or go, are counted.
func TestAskAllIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, greet)
		join(t, n[0], &r, "a")
		b := join(t, n[0], &r, "b")
		join(t, n[1], &r, "c")
		begin := time.Now()
		time.AfterFunc(time.Second, b.Disconnect)
		got := 0
		var last error
		for _, err := range n[0].Of("/").Local().Timeout(5*time.Second).AskAll(t.Context(), "silence") {
			if err == nil {
				got++
			}
			last = err
		}
		p, ok := errors.AsType[*atoll.PartialError](last)
		if got != 0 || !ok || p.Missing != 2 {
			t.Errorf("got %d answers and error %v, want none, and 2 missing", got, last)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("took %v, want 5s", d)
		}
		// All of those that could answer have: nobody waits for the one that left.
		ns := n[0].Of("/")
		b = join(t, n[0], &r, "b")
		slow := make(chan struct{})
		go func() {
			time.Sleep(100 * time.Millisecond)
			b.Disconnect()
			close(slow)
		}()
		_ = slow
		for range ns.Local().AskAll(t.Context(), "who") {
			break // leaving early is fine
		}
		<-slow
	})
}

// The bus goes away: this node's clients get everything, Emit says what the others did not
// get, and all is well when the bus is back.
func TestBusAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, greet)
		join(t, n[0], &r, "a")
		join(t, n[1], &r, "b")
		ns := n[0].Of("/")
		hub.SetDown(true)
		if err := ns.Emit(t.Context(), "x", 1); err == nil {
			t.Error("got no error from Emit without a bus")
		}
		if n, err := ns.Count(t.Context()); n != 1 || err == nil {
			t.Errorf("count without a bus: got %d and error %v, want 1 and an error", n, err)
		}
		synctest.Wait()
		r.want(t, "a: x[1]")
		time.Sleep(10 * time.Second)
		hub.SetDown(false)
		time.Sleep(5 * time.Second)
		if err := ns.Emit(t.Context(), "x", 2); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second) // what b has missed is asked for, and may come late
		r.mu.Lock()
		slices.Sort(r.lines)
		r.lines = slices.DeleteFunc(r.lines, func(l string) bool { return l == "b: x[1]" })
		r.mu.Unlock()
		r.want(t, "a: x[2]", "b: x[2]")
		if n, err := ns.Count(t.Context()); n != 2 || err != nil {
			t.Errorf("count: got %d and error %v, want 2", n, err)
		}
	})
}

// All operations of one goroutine reach each socket in the order of the calls: a model
// says what each of nine sockets on three nodes must have received.
func TestOrderAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { orderAgainstModel(t, rand.New(rand.NewPCG(seed, 2))) })
		})
	}
}

func orderAgainstModel(t *testing.T, rnd *rand.Rand) {
	var r record
	var hub membus.Hub
	n := atolltest.Cluster(t, &hub, 3, greet)
	ns := n[0].Of("/")
	rooms := []string{"r0", "r1", "r2", "r3"}
	in := make([]map[string]bool, 9)
	gone := make([]bool, 9)
	want := make([][]string, 9)
	socks := make([]*client.Socket, 9)
	ids := make([]string, 9)
	for i := range socks {
		socks[i] = join(t, n[i%3], &r, strconv.Itoa(i))
		ids[i] = socks[i].ID()
		in[i] = map[string]bool{ids[i]: true}
	}
	pick := func() []string {
		list := make([]string, rnd.IntN(3))
		for i := range list {
			if list[i] = rooms[rnd.IntN(len(rooms))]; rnd.IntN(4) == 0 {
				list[i] = ids[rnd.IntN(9)]
			}
		}
		return list
	}
	for seq := range 300 {
		to, but := pick(), pick()
		target := ns.To(to...).Except(but...)
		var hit []int
		for i := range socks {
			has := func(room string) bool { return in[i][room] }
			if !gone[i] && (len(to) == 0 || slices.ContainsFunc(to, has)) && !slices.ContainsFunc(but, has) {
				hit = append(hit, i)
			}
		}
		room := rooms[rnd.IntN(len(rooms))]
		var err error
		switch k := rnd.IntN(20); {
		case k < 5:
			err = target.Join(t.Context(), room)
			for _, i := range hit {
				in[i][room] = true
			}
		case k < 8:
			err = target.Leave(t.Context(), room)
			for _, i := range hit {
				delete(in[i], room)
			}
		case k == 8 && seq > 200 && len(to) > 0:
			err = target.Disconnect(t.Context(), rnd.IntN(2) == 0)
			for _, i := range hit {
				gone[i] = true
				want[i] = append(want[i], fmt.Sprintf("%d: io server disconnect", i))
			}
		default:
			size := []int{1, 10, 5000}[rnd.IntN(3)]
			err = target.Emit(t.Context(), "e", seq, strings.Repeat("x", size))
			for _, i := range hit {
				want[i] = append(want[i], fmt.Sprintf(`%d: e[%d,"%s"]`, i, seq, strings.Repeat("x", size)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	for i := range socks {
		var got []string
		for _, l := range r.lines {
			if strings.HasPrefix(l, strconv.Itoa(i)+":") {
				got = append(got, l)
			}
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("socket %d: got %d events, want %d, the same", i, len(got), len(want[i]))
		}
	}
}
