//go:build unix

package redisstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// TestFollow has two buses write: each follower gets all, its own too, in one order, with the offsets that
// Append returned and Since tells.
func TestFollow(t *testing.T) {
	const each = 200
	s := redistest.Start(t)
	a, b := open(t, s, nil), open(t, s, nil)
	add(t, a, "before")
	end, err := b.End(t.Context(), topicN)
	if err != nil {
		t.Fatal(err)
	}
	ma, mb := follow(t, a, topicN), follow(t, b, topicN)
	other := follow(t, b, "stream /other")
	var mu sync.Mutex
	want := map[string]string{} // offsets to texts
	var wg sync.WaitGroup
	for i, bus := range []*redisstream.Bus{a, b} {
		wg.Go(func() {
			for j := range each {
				text := fmt.Sprint(i, " ", j)
				at := add(t, bus, text)[0]
				mu.Lock()
				want[at] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	eventually(t, "all entries", func() bool { return len(ma.all()) >= 2*each && len(mb.all()) >= 2*each })
	if !slices.Equal(ma.all(), mb.all()) {
		t.Error("two followers got different entries, or another order")
	}
	last := end
	for _, l := range ma.all() {
		if want[l.offset] != l.text {
			t.Fatalf("at %s got %q, want %q", l.offset, l.text, want[l.offset])
		}
		if a.Compare(last, l.offset) != -1 || a.Compare(l.offset, last) != 1 {
			t.Fatalf("got offset %s behind %s, want a greater one", l.offset, last)
		}
		last = l.offset
	}
	if got := len(ma.all()); got != 2*each {
		t.Errorf("got %d entries, want %d", got, 2*each)
	}
	texts, err := since(t, b, end)
	if err != nil || !slices.Equal(texts, ma.texts()) {
		t.Errorf("Since: got %d entries and error %v, want the same as the follower", len(texts), err)
	}
	if texts, err := since(t, b, last); err != nil || texts != nil {
		t.Errorf("Since the last: got %v and error %v, want nothing", texts, err)
	}
	if got := other.all(); len(got) != 0 {
		t.Errorf("follower of another namespace: got %v, want nothing", got)
	}
}

// TestFollowClose checks that a subscription ends when Close returns, and that the reader ends with the last one.
func TestFollowClose(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	var one, two mail
	sub1, err := b.Follow(t.Context(), topicN, one.deliver)
	if err != nil {
		t.Fatal(err)
	}
	sub2, err := b.Follow(t.Context(), topicN, two.deliver)
	if err != nil {
		t.Fatal(err)
	}
	add(t, b, "1")
	eventually(t, "entry 1", func() bool { return len(one.all()) == 1 && len(two.all()) == 1 })
	sub1.Close()
	add(t, b, "2")
	eventually(t, "entry 2", func() bool { return len(two.all()) == 2 })
	start := time.Now()
	sub2.Close()
	sub2.Close()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Close took %v, want no wait for BlockTime", d)
	}
	add(t, b, "3")
	three := follow(t, b, topicN)
	add(t, b, "4")
	eventually(t, "entry 4", func() bool { return slices.Equal(three.texts(), []string{"4"}) })
	if got := one.texts(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("got %q, want 1", got)
	}
}

// TestOutage kills Redis and cuts connections while entries are written: all that Append said was written is
// delivered, in order, once.
func TestOutage(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes")
	a, b := open(t, s, nil), open(t, s, nil)
	m := follow(t, b, topicN)
	var want []string
	rounds := 0
	write := func(n int) {
		for range n {
			topic, msg := entry(t, fmt.Sprint(rounds))
			rounds++
			if at, err := a.Append(t.Context(), topic, msg); err == nil {
				want = append(want, at)
			}
		}
	}
	for range 3 {
		write(50)
		s.Kill()
		write(5)
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "Redis", func() bool { n := len(want); write(1); return len(want) > n })
		write(50)
		s.MustDo(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		eventually(t, "a connection", func() bool { n := len(want); write(1); return len(want) > n })
	}
	got := func() (offsets []string) {
		for _, l := range m.all() {
			if slices.Contains(want, l.offset) { // what Append failed to confirm may have been written
				offsets = append(offsets, l.offset)
			}
		}
		return offsets
	}
	eventually(t, "all entries", func() bool { return len(got()) >= len(want) })
	if !slices.Equal(got(), want) {
		t.Error("got other entries than were written, or another order")
	}
	if st := b.Stats(); st.Reconnects == 0 || st.Trimmed != 0 {
		t.Errorf("got %+v, want some reconnects and nothing trimmed", st)
	}
}

// TestCut cuts connections of the follower in the middle of whatever they carry.
func TestCut(t *testing.T) {
	s := redistest.Start(t)
	p := clustertest.NewProxy(t, s.Addr())
	a := open(t, s, nil)
	bus, err := dialBus(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	m := follow(t, bus.(ownBus).Bus, topicN)
	var want []string
	for i := range 100 {
		p.Cut(1 + i*i%977)
		want = append(want, add(t, a, strings.Repeat("x", i%300), "y", "z")...)
		time.Sleep(time.Millisecond)
	}
	offsets := func() (all []string) {
		for _, l := range m.all() {
			all = append(all, l.offset)
		}
		return all
	}
	eventually(t, "all entries", func() bool { return len(offsets()) >= len(want) })
	if !slices.Equal(offsets(), want) {
		t.Error("got other entries than were written, or another order")
	}
}

// TestWrongType has a key of another type where the stream should be: nothing spins.
func TestWrongType(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	m := follow(t, b, topicN)
	add(t, b, "1")
	eventually(t, "1", func() bool { return len(m.all()) == 1 })
	s.MustDo(t, "SET", "socket.io", "text")
	topic, msg := entry(t, "2")
	if _, err := b.Append(t.Context(), topic, msg); err == nil {
		t.Error("Append: got no error, want one")
	}
	if _, err := b.Follow(t.Context(), "stream /other", func(_, _ string, _ []byte) {}); err == nil {
		t.Error("Follow: got no error, want one")
	}
	s.MustDo(t, "CONFIG", "RESETSTAT")
	time.Sleep(2 * time.Second)
	if n := calls(t, s); n > 200 {
		t.Errorf("got %d commands in 2 s, want a few", n)
	}
	s.MustDo(t, "DEL", "socket.io")
	eventually(t, "3", func() bool {
		topic, msg := entry(t, "3")
		b.Append(t.Context(), topic, msg)
		time.Sleep(10 * time.Millisecond)
		return slices.Contains(m.texts(), "3")
	})
}

// calls returns how many commands Redis has executed since its statistics were reset.
func calls(t *testing.T, s *redistest.Server) (n int) {
	t.Helper()
	info := fmt.Sprint(s.MustDo(t, "INFO", "stats"))
	if _, after, ok := strings.Cut(info, "total_commands_processed:"); ok {
		fmt.Sscan(after, &n)
	}
	return n
}

// TestIdle counts what an idle bus costs Redis.
func TestIdle(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	follow(t, b, topicN)
	s.MustDo(t, "CONFIG", "RESETSTAT")
	time.Sleep(time.Second)
	if n := calls(t, s); n > 10 {
		t.Errorf("got %d commands in a second, want at most 10", n)
	}
}

// TestOrder tells by the stream and asks behind it: a question waits for the stream.
func TestOrder(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s, nil), open(t, s, nil)
	var mu sync.Mutex
	var got []string
	note := func(text string) {
		mu.Lock()
		got = append(got, text)
		mu.Unlock()
	}
	if _, err := b.Follow(t.Context(), topicN, func(_, _ string, msg []byte) { note(textOf(msg)) }); err != nil {
		t.Fatal(err)
	}
	channel := "socket.io#/n#"
	if _, err := b.Subscribe(t.Context(), channel, func(_ string, msg []byte) {
		m, err := dialect.Decode("b", channel, msg)
		if err != nil {
			t.Errorf("decode: %v", err)
			return
		}
		note(m.Request[2:])
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		text := fmt.Sprint(i)
		if i%3 != 0 {
			add(t, a, text)
			continue
		}
		topic, msg, err := dialect.Encode(&cluster.Message{
			Kind: cluster.Ask, From: sender, Namespace: "/n", Request: text, Op: &cluster.Op{Kind: cluster.Fetch, Namespace: "/n"},
		})
		if err != nil || topic != channel {
			t.Fatal(topic, err)
		}
		if err := a.Publish(t.Context(), topic, msg); err != nil {
			t.Fatal(err)
		}
	}
	all := func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(got) }
	eventually(t, "all", func() bool { return len(all()) >= 300 })
	told := 0 // by the stream
	for _, text := range all() {
		i, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 {
			told++
		} else if told < i-i/3-1 {
			t.Errorf("got question %d behind %d entries, want %d or more", i, told, i-i/3-1)
		}
	}
}

// TestClosed calls a bus that is closed, and one whose context has ended.
func TestClosed(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	topic, msg := entry(t, "x")
	if _, err := b.Append(ctx, topic, msg); err == nil {
		t.Error("Append with an ended context: got no error, want one")
	}
	if _, err := b.Follow(ctx, topic, nil); err == nil {
		t.Error("Follow with an ended context: got no error, want one")
	}
	m := follow(t, b, topicN)
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := b.Append(t.Context(), topic, msg); !errors.Is(err, redisstream.ErrClosed) {
		t.Errorf("Append: got error %v, want ErrClosed", err)
	}
	if _, err := b.Follow(t.Context(), topic, m.deliver); !errors.Is(err, redisstream.ErrClosed) {
		t.Errorf("Follow: got error %v, want ErrClosed", err)
	}
	if _, err := b.End(t.Context(), topic); !errors.Is(err, redisstream.ErrClosed) {
		t.Errorf("End: got error %v, want ErrClosed", err)
	}
	if _, err := since(t, b, "0-0"); !errors.Is(err, redisstream.ErrClosed) {
		t.Errorf("Since: got error %v, want ErrClosed", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	s := redistest.Start(b)
	bus := open(b, s, nil)
	topic, msg := entry(b, strings.Repeat("x", 256))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bus.Append(context.Background(), topic, msg); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkFollow has one goroutine at a time write, and waits until the entry was read: the way there and back.
func BenchmarkFollow(b *testing.B) {
	s := redistest.Start(b)
	bus := open(b, s, nil)
	came := make(chan struct{}, 1)
	if _, err := bus.Follow(b.Context(), topicN, func(_, _ string, _ []byte) { came <- struct{}{} }); err != nil {
		b.Fatal(err)
	}
	topic, msg := entry(b, strings.Repeat("x", 256))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.Append(context.Background(), topic, msg); err != nil {
			b.Fatal(err)
		}
		<-came
	}
}
