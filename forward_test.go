package atoll_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
)

// echoes has the nodes send back what they are told, and numbered news to all.
func echoes(_ int, srv *atoll.Server) {
	ns := srv.Of("/")
	atoll.On(ns, "say", func(ctx context.Context, s *atoll.Socket, i int) error {
		return s.Emit(ctx, "said", i)
	})
	ns.Handle("blob", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
		var b []byte
		if err := e.Args.Decode(0, &b); err != nil {
			return err
		}
		return s.Emit(ctx, "blob", b)
	})
	atoll.Answer(ns, "sum", func(_ context.Context, _ *atoll.Socket, in []int) (int, error) {
		sum := 0
		for _, i := range in {
			sum += i
		}
		return sum, nil
	})
}

// A talker is a client that counts what it says and hears.
type talker struct {
	*client.Socket
	mu       sync.Mutex
	next     int
	wrong    []string
	lost     int // times that it was disconnected
	heard    chan struct{}
	expected int
}

func (f *fleet) talker(o *client.Options) *talker {
	t := &talker{Socket: f.client(o), heard: make(chan struct{})}
	client.On(t.Socket, "said", func(_ context.Context, i int) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i != t.next {
			t.wrong = append(t.wrong, fmt.Sprintf("heard %d, want %d", i, t.next))
		}
		t.next = i + 1
		if t.next == t.expected {
			close(t.heard)
		}
		return nil
	})
	t.OnDisconnect(func(cause *client.DisconnectError) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.lost++
		t.wrong = append(t.wrong, "disconnected: "+cause.Error())
	})
	return t
}

// talk says numbers, and waits until all came back.
func (t *talker) talk(ctx context.Context, n int, pause time.Duration) error {
	t.mu.Lock()
	t.expected = n
	t.mu.Unlock()
	if err := t.Connect(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	for i := range n {
		if err := t.Emit(ctx, "say", i); err != nil {
			return fmt.Errorf("say: %w", err)
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	select {
	case <-t.heard:
		return nil
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Errorf("heard %d of %d: %w; %v", t.next, n, ctx.Err(), t.wrong)
	}
}

var modes = []struct {
	name       string
	transports []string
}{
	{"polling", []string{client.Polling}},
	{"upgrade", []string{client.Polling, client.WebSocket}},
	{"websocket", []string{client.WebSocket}},
}

// TestNoStickiness has clients of all modes talk to three nodes, with each of their requests going to any of these.
func TestNoStickiness(t *testing.T) {
	for _, medium := range []struct {
		name    string
		buses   func(t testing.TB) func() cluster.Bus
		carrier bool
	}{
		{"memory", nil, false},
		{"nats", natsBuses, false},
		{"nats, without links", natsBuses, true},
	} {
		t.Run(medium.name, func(t *testing.T) {
			o := &fleetOptions{nodes: 3, setup: echoes, carrier: medium.carrier}
			if medium.buses != nil {
				o.buses = medium.buses(t)
			}
			f := newFleet(t, o)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			first := f.talker(&client.Options{Transports: modes[0].transports}) // the nodes learn that they have to forward
			if err := first.talk(ctx, 5, 0); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for _, m := range modes {
				for i := range 30 {
					tk := f.talker(&client.Options{Transports: m.transports, DisableReconnect: true})
					wg.Go(func() {
						if err := tk.talk(ctx, 20, time.Duration(i%4)*time.Millisecond); err != nil {
							t.Errorf("%s: %v", m.name, err)
							return
						}
						var sum int
						args, err := tk.Ask(ctx, "sum", []int{1, 2, i})
						if err == nil {
							err = args.Decode(0, &sum)
						}
						if err != nil || sum != 3+i {
							t.Errorf("%s: ack: got %d and error %v, want %d", m.name, sum, err, 3+i)
						}
						tk.mu.Lock()
						defer tk.mu.Unlock()
						if len(tk.wrong) > 0 {
							t.Errorf("%s: %s", m.name, strings.Join(tk.wrong, "; "))
						}
					})
				}
			}
			wg.Wait()
			if got := f.bad.Load(); got != 0 {
				t.Errorf("got %d refused requests, want none", got)
			}
			var in, out, moved int64
			for _, n := range f.nodes {
				s := n.Stats().Forward
				in, out, moved = in+s.In, out+s.Out, moved+s.MovedIn
				t.Logf("%+v", s)
			}
			if out == 0 || in == 0 {
				t.Errorf("got %d requests forwarded and %d served, want some", out, in)
			}
			if moved == 0 {
				t.Errorf("no session moved, want some")
			}
		})
	}
}
