package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A scribe is a node on a log that writes down what it performs.
type scribe struct {
	*cluster.Node
	bus *membus.LogBus

	mu   sync.Mutex
	got  []string // data@offset
	gaps []string
}

func (s *scribe) Do(op *cluster.Op, answer func(cluster.Answer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(op.Data)+"@"+op.Offset)
	if answer != nil {
		answer(cluster.Answer{First: true})
	}
}

func (s *scribe) performed() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

func keepers(t *testing.T, hub *membus.Hub, wrap func(*membus.LogBus) cluster.Bus, names ...string) []*scribe {
	t.Helper()
	var all []*scribe
	for _, name := range names {
		s := &scribe{bus: membus.NewLog(hub, &membus.LogOptions{Options: membus.Options{Name: name}})}
		bus := cluster.Bus(s.bus)
		if wrap != nil {
			bus = wrap(s.bus)
		}
		var err error
		s.Node, err = cluster.Join(t.Context(), bus, &cluster.Options{
			ID: "id-" + name, Name: name, Logger: slog.New(slog.DiscardHandler),
			OnGap: func(from string, first, last uint64) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.gaps = append(s.gaps, fmt.Sprintf("%s:%d-%d", from, first, last))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Attach(s); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.bus.Thaw()
			s.Close()
			s.bus.Close()
		})
		all = append(all, s)
	}
	return all
}

func emitOp(data string) *cluster.Op {
	return &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data)}
}

func TestKeepOrder(t *testing.T) {
	simulate(t, "every node performs the same in the same order", func(t *testing.T, hub *membus.Hub) {
		all := keepers(t, hub, nil, "a", "b", "c")
		var wg sync.WaitGroup
		for _, s := range all {
			for i := range 5 {
				wg.Go(func() {
					for k := range 20 {
						data := fmt.Sprintf("%s%d-%d", s.Name(), i, k)
						offset, err := s.Keep(t.Context(), emitOp(data))
						if err != nil || offset == "" {
							t.Errorf("Keep: got %q and %v", offset, err)
						}
						s.mu.Lock()
						if want := data + "@" + offset; !strings.Contains(strings.Join(s.got, " "), want) {
							t.Errorf("Keep has returned, and %s was not performed", want)
						}
						s.mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		want := all[0].performed()
		if len(want) != 300 {
			t.Errorf("got %d operations, want 300", len(want))
		}
		last := want[len(want)-1]
		for _, s := range all {
			if got := s.performed(); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s: got %v, want %v", s.Name(), got, want)
			}
			if got := s.Position("/"); s.bus.Compare(got, last[strings.Index(last, "@")+1:]) < 0 {
				t.Errorf("%s: got position %q, want that of %s or one behind it", s.Name(), got, last)
			}
		}
	})
	simulate(t, "what is told does not come back, and has its offset elsewhere", func(t *testing.T, hub *membus.Hub) {
		all := keepers(t, hub, nil, "a", "b")
		for _, data := range []string{"1", "2"} {
			if err := all[0].Tell(t.Context(), emitOp(data)); err != nil {
				t.Fatal(err)
			}
		}
		if err := all[0].Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Flags: cluster.Volatile, Namespace: "/", Data: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if got := all[0].performed(); len(got) != 0 {
			t.Errorf("got %v, want nothing of our own", got)
		}
		got := all[1].performed()
		if len(got) != 3 || got[0] == "1@" || got[1] == "2@" || got[2] != "v@" {
			t.Errorf("got %v, want 1 and 2 with offsets and v without", got)
		}
	})
	simulate(t, "what is no emit, and where nothing is kept", func(t *testing.T, hub *membus.Hub) {
		a := keepers(t, hub, nil, "a")[0]
		if _, err := a.Keep(t.Context(), &cluster.Op{Kind: cluster.JoinRooms, Namespace: "/"}); !errors.Is(err, cluster.ErrUnsupported) {
			t.Errorf("got %v, want ErrUnsupported", err)
		}
		var other membus.Hub
		b := join(t, &other, "b")
		if _, err := b.Keep(t.Context(), emitOp("x")); !errors.Is(err, cluster.ErrUnsupported) || b.Keeps() || b.Position("/") != "" {
			t.Errorf("got %v, want ErrUnsupported", err)
		}
		for _, err := range b.Since(t.Context(), "/", "1") {
			if !errors.Is(err, cluster.ErrUnsupported) {
				t.Errorf("Since: got %v, want ErrUnsupported", err)
			}
		}
	})
}

// A lateLog takes its time for an Append, and says that it failed though it has not.
type lateLog struct {
	*membus.LogBus
	before, after time.Duration
	match         string
	err           error
}

func (b *lateLog) Append(ctx context.Context, topic string, msg []byte) (string, error) {
	if !strings.Contains(string(msg), b.match) {
		return b.LogBus.Append(ctx, topic, msg)
	}
	msg = append([]byte(nil), msg...)
	if b.before > 0 {
		time.AfterFunc(b.before, func() { b.LogBus.Append(context.Background(), topic, msg) })
	} else if _, err := b.LogBus.Append(ctx, topic, msg); err != nil {
		return "", err
	}
	select {
	case <-time.After(b.after):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return "", b.err
}

func TestKeepFails(t *testing.T) {
	away := errors.New("away")
	for _, c := range []struct {
		name          string
		before, after time.Duration
		err           error
		want          string // by whom it was performed, in the end
	}{
		{"an error, and it turns up later", 2 * time.Second, 0, away, "b"},
		{"no answer, and it turns up after the deadline", 2 * time.Second, time.Hour, nil, "b"},
		{"an error, when it was performed already", 0, time.Millisecond, away, "a b"},
		{"no answer, when it was performed already", 0, time.Hour, nil, "a b"},
	} {
		simulate(t, c.name, func(t *testing.T, hub *membus.Hub) {
			b := keepers(t, hub, nil, "b")[0]
			a := keepers(t, hub, func(l *membus.LogBus) cluster.Bus {
				return &lateLog{LogBus: l, before: c.before, after: c.after, err: c.err, match: "op"}
			}, "a")[0]
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			offset, err := a.Keep(ctx, emitOp("op"))
			if (err == nil) != strings.HasPrefix(c.want, "a") || (err == nil) == (offset == "") {
				t.Errorf("Keep: got %q and error %v", offset, err)
			}
			time.Sleep(3 * time.Second)
			var got []string
			for _, s := range []*scribe{a, b} {
				if n := len(s.performed()); n > 1 {
					t.Errorf("%s performed it %d times", s.Name(), n)
				} else if n == 1 {
					got = append(got, s.Name())
				}
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got it performed by %q, want %q", got, c.want)
			}
		})
	}
	simulate(t, "the node closes", func(t *testing.T, hub *membus.Hub) {
		a := keepers(t, hub, func(l *membus.LogBus) cluster.Bus {
			return &lateLog{LogBus: l, before: 2 * time.Second, match: "op"}
		}, "a")[0]
		done := make(chan error)
		go func() {
			_, err := a.Keep(t.Context(), emitOp("op"))
			done <- err
		}()
		synctest.Wait()
		a.Close()
		if err := <-done; !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if _, err := a.Keep(t.Context(), emitOp("op")); !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("after Close: got %v, want ErrClosed", err)
		}
		time.Sleep(2 * time.Second) // for the timer
		if got := a.performed(); len(got) != 0 {
			t.Errorf("got %v performed, want nothing", got)
		}
	})
	simulate(t, "the bus is away", func(t *testing.T, hub *membus.Hub) {
		all := keepers(t, hub, nil, "a", "b")
		hub.SetDown(true)
		if _, err := all[0].Keep(t.Context(), emitOp("1")); !errors.Is(err, membus.ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
		hub.SetDown(false)
		time.Sleep(5 * time.Second)
		if _, err := all[0].Keep(t.Context(), emitOp("2")); err != nil {
			t.Error(err)
		}
		if got := all[0].performed(); len(got) != 1 || got[0][:2] != "2@" {
			t.Errorf("got %v, want only the second", got)
		}
	})
}

func TestSince(t *testing.T) {
	simulate(t, "all senders, emits of one namespace only", func(t *testing.T, hub *membus.Hub) {
		all := keepers(t, hub, nil, "a", "b")
		from := all[0].Position("/")
		if from == "" {
			t.Fatal("no position at the beginning")
		}
		first, err := all[0].Keep(t.Context(), emitOp("1"))
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range []*cluster.Op{
			{Kind: cluster.Emit, Namespace: "/other", Data: []byte("x")},
			{Kind: cluster.Emit, Flags: cluster.Volatile, Namespace: "/", Data: []byte("v")},
			{Kind: cluster.JoinRooms, Namespace: "/", Names: []string{"r"}},
			emitOp("2"),
		} {
			if err := all[1].Tell(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := all[1].Keep(t.Context(), emitOp("3")); err != nil {
			t.Fatal(err)
		}
		since := func(s *scribe, offset string) (got string, err error) {
			for op, err := range s.Since(t.Context(), "/", offset) {
				if err != nil {
					return got, err
				}
				if op.Offset == "" {
					t.Errorf("%s has no offset", op.Data)
				}
				got += string(op.Data)
			}
			return got, nil
		}
		synctest.Wait()
		for _, s := range all {
			if got, err := since(s, from); got != "123" || err != nil {
				t.Errorf("%s: got %q and %v, want 123", s.Name(), got, err)
			}
			if got, err := since(s, first); got != "23" || err != nil {
				t.Errorf("%s: got %q and %v, want 23", s.Name(), got, err)
			}
			synctest.Wait()
			if got, err := since(s, s.Position("/")); got != "" || err != nil {
				t.Errorf("%s: got %q and %v behind its position, want nothing", s.Name(), got, err)
			}
		}
		hub.Trim("atoll.all", 1)
		if got, err := since(all[0], from); got != "123" || err != nil {
			t.Errorf("trimmed, but in memory: got %q and %v, want 123", got, err)
		}
		time.Sleep(10 * time.Minute) // now it is not
		if _, err := since(all[0], from); !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("got %v, want ErrTrimmed", err)
		}
	})
	simulate(t, "what was trimmed while nobody read", func(t *testing.T, hub *membus.Hub) {
		all := keepers(t, hub, nil, "a", "b")
		a, b := all[0], all[1]
		for i := range 10 {
			if i == 2 {
				synctest.Wait()
				b.bus.SetDown(true)
			}
			if err := a.Tell(t.Context(), emitOp(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		hub.Trim("atoll.all", 3)
		b.bus.SetDown(false)
		time.Sleep(5 * time.Second)
		got := b.performed()
		s := b.Stats()
		if len(got) != 5 || s.Trimmed != 1 || s.Gaps != 5 {
			t.Errorf("got %v and %d trimmed, %d gaps, want 5 performed, 1 and 5", got, s.Trimmed, s.Gaps)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if want := ":0-0 id-a:3-7"; strings.Join(b.gaps, " ") != want {
			t.Errorf("OnGap: got %v, want %s", b.gaps, want)
		}
	})
}

func TestLoop(t *testing.T) {
	simulate(t, "in order with operations", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		for range 3 {
			a.emit(t, "x")
			synctest.Wait()
			n := 0
			if !b.Loop(func() { b.mu.Lock(); n = len(b.got); b.mu.Unlock() }) {
				t.Error("got false, want f called")
			}
			if got := len(b.received()); n != got {
				t.Errorf("got %d operations before f, want %d", n, got)
			}
		}
		b.Close()
		if b.Loop(func() { t.Error("called after Close") }) {
			t.Error("after Close: got true, want false")
		}
	})
	simulate(t, "and a node that closes meanwhile", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				called := false
				if ok := a.Loop(func() { called = true }); ok != called {
					t.Errorf("got %v, want %v", ok, called)
				}
			})
		}
		a.Close()
		wg.Wait()
	})
}
