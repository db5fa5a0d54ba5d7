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

// TestTrimmed cuts a follower off until entries were trimmed that it has not read: it is told so, once, and gets
// what is kept.
func TestTrimmed(t *testing.T) {
	s := redistest.Start(t)
	p := clustertest.NewProxy(t, s.Addr())
	a := open(t, s, &redisstream.Options{MaxLen: 100, Logger: quiet})
	bus, err := dialBus(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	b := bus.(ownBus).Bus
	m := follow(t, b, topicN)
	add(t, a, "first")
	eventually(t, "the first entry", func() bool { return len(m.all()) == 1 })
	for round := range 4 {
		before := len(m.all())
		p.Hold()
		late := round%2 == 1 // what Redis has sent already arrives later
		if !late {
			p.CutAll()
		}
		const count = 1000
		for i := range count {
			add(t, a, fmt.Sprint(round, " ", i))
		}
		kept := len(s.MustDo(t, "XRANGE", "socket.io", "-", "+").([]any))
		if kept >= count {
			t.Fatal("nothing was trimmed")
		}
		p.Release()
		last := fmt.Sprint(round, " ", count-1)
		eventually(t, "the last entry", func() bool { texts := m.texts(); return texts[len(texts)-1] == last })
		got := m.all()[before:]
		gap := slices.IndexFunc(got, func(l letter) bool { return l.text == "gap" })
		if gap < 0 || late != (gap > 0) {
			t.Fatalf("round %d: got the gap at %d of %d deliveries", round, gap, len(got))
		}
		for i, l := range got[:gap] {
			if want := fmt.Sprint(round, " ", i); l.text != want {
				t.Fatalf("before the gap: got %q, want %q", l.text, want)
			}
		}
		at := got[gap].offset
		if b.Compare(at, got[gap+1].offset) != -1 {
			t.Errorf("got the gap at %s, want it before %s", at, got[gap+1].offset)
		}
		got = got[gap+1:]
		if len(got) != kept {
			t.Errorf("got %d entries behind the gap, want %d", len(got), kept)
		}
		for i, l := range got {
			if want := fmt.Sprint(round, " ", count-kept+i); l.text != want {
				t.Fatalf("behind the gap: got %q, want %q", l.text, want)
			}
		}
		if texts, err := since(t, b, at); err != nil || len(texts) != kept {
			t.Errorf("Since the gap: got %d entries and error %v, want %d", len(texts), err, kept)
		}
	}
	// Cut off for less than the stream keeps: no gap.
	before := len(m.all())
	p.Hold()
	p.CutAll()
	add(t, a, "x", "y")
	p.Release()
	eventually(t, "two entries", func() bool { return len(m.all()) >= before+2 })
	if got := m.texts()[before:]; !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("got %q, want x and y", got)
	}
	// All was trimmed.
	before = len(m.all())
	p.Hold()
	p.CutAll()
	add(t, a, "gone")
	s.MustDo(t, "XTRIM", "socket.io", "MAXLEN", "0")
	p.Release()
	eventually(t, "a gap", func() bool { return len(m.all()) > before })
	add(t, a, "z")
	eventually(t, "z", func() bool { return slices.Equal(m.texts()[before:], []string{"gap", "z"}) })
	if got := b.Stats().Trimmed; got != 5 {
		t.Errorf("got %d gaps counted, want 5", got)
	}
}

// TestBurst writes many entries in one step to a stream that keeps few, so that a reader that waits misses some.
func TestBurst(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisstream.Options{MaxLen: 1, Logger: quiet})
	m := follow(t, b, topicN)
	topic, msg := entry(t, "x")
	args := fieldsOf(t, topic, msg)
	script := `for i = 1, 500 do redis.call('XADD', KEYS[1], 'MAXLEN', '=', '10', '*', unpack(ARGV)) end`
	read := 0
	for range 5 {
		s.MustDo(t, append([]string{"EVAL", script, "1", "socket.io"}, args...)...)
		eventually(t, "ten entries", func() bool {
			n := 0
			for _, text := range m.texts() {
				if text == "x" {
					n++
				}
			}
			return n >= read+10
		})
		read += 10
	}
	if got, want := len(m.all()), 55; got != want {
		t.Errorf("got %d deliveries, want %d: a gap before each ten entries", got, want)
	}
}

func fieldsOf(t *testing.T, topic string, msg []byte) []string {
	t.Helper()
	m, err := dialect.Decode("", topic, msg)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"uid", m.From, "nsp", m.Namespace, "type", "3", "data", `{"packet":{"type":2,"data":` + string(m.Op.Data) + `},"opts":{"rooms":[],"except":[],"flags":{}}}`}
}

// TestLost has Redis lose the stream: the follower goes on with the new one.
func TestLost(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s, nil), open(t, s, nil)
	m := follow(t, b, topicN)
	at := add(t, a, "1")
	eventually(t, "1", func() bool { return len(m.all()) == 1 })
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	topic, msg := entry(t, "2")
	eventually(t, "Redis", func() bool { _, err := a.Append(t.Context(), topic, msg); return err == nil })
	eventually(t, "2", func() bool { return slices.Contains(m.texts(), "2") })
	if _, err := since(t, b, at[0]); !errors.Is(err, cluster.ErrTrimmed) {
		t.Errorf("Since a place in the stream that was lost: got error %v, want ErrTrimmed", err)
	}
}

// TestClockBack has a stream whose ids run ahead of the clock, and then one in its place whose ids do not.
func TestClockBack(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	s.MustDo(t, "XADD", "socket.io", "9999999999999-0", "x", "y")
	m := follow(t, b, topicN)
	add(t, b, "1")
	eventually(t, "1", func() bool { return len(m.all()) == 1 })
	s.MustDo(t, "DEL", "socket.io")
	s.MustDo(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	eventually(t, "2", func() bool {
		topic, msg := entry(t, "2")
		b.Append(t.Context(), topic, msg)
		time.Sleep(20 * time.Millisecond)
		return slices.Contains(m.texts(), "2")
	})
}

// TestSinceTrimmed asks for places in a stream that was trimmed.
func TestSinceTrimmed(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisstream.Options{MaxLen: -1, ReadCount: 7, Logger: quiet})
	begin, err := b.End(t.Context(), topicN)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i := range 40 {
		texts = append(texts, fmt.Sprint(i))
	}
	at := add(t, b, texts...)
	check := func(name, offset string, want []string, trimmed bool) {
		t.Helper()
		got, err := since(t, b, offset)
		if errors.Is(err, cluster.ErrTrimmed) != trimmed || err != nil && !trimmed {
			t.Errorf("%s: got error %v, want trimmed: %v", name, err, trimmed)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	check("the beginning", begin, texts, false)
	check("the first", at[0], texts[1:], false)
	check("the last", at[39], nil, false)
	for _, bad := range []string{"", "-", "x", "1", "1-", "-1-1", "1-1-1", "01-1", "+1-1", " 1-1", "99999999999999999999-0", "$", "0-", "1-18446744073709551616"} {
		check(bad, bad, nil, true)
	}
	check("beyond the end", "99999999999999-0", nil, true)
	check("before the stream", "1-1", nil, true)

	s.MustDo(t, "XTRIM", "socket.io", "MAXLEN", "=", "30") // 0 to 9 are gone
	check("the first that is kept", at[10], texts[11:], false)
	check("long gone", at[3], nil, true)
	check("the beginning, trimmed", begin, nil, true)
	check("another", at[20], texts[21:], false)

	s.MustDo(t, "XDEL", "socket.io", at[25])
	check("before what was deleted", at[20], nil, true)
	check("behind what was deleted", at[30], texts[31:], false)
	check("what was deleted", at[25], texts[26:], false)

	s.MustDo(t, "XTRIM", "socket.io", "MAXLEN", "=", "0")
	check("the last, all trimmed", at[39], nil, false)
	check("the one before, all trimmed", at[38], nil, true)
	s.MustDo(t, "DEL", "socket.io")
	check("the last, of a stream that is gone", at[39], nil, true)
}

// TestSinceWhileTrimming reads on while entries are trimmed: nothing is left out unsaid.
func TestSinceWhileTrimming(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisstream.Options{MaxLen: -1, ReadCount: 10, Logger: quiet})
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprint(i))
	}
	begin, err := b.End(t.Context(), topicN)
	if err != nil {
		t.Fatal(err)
	}
	add(t, b, texts...)
	var got []string
	for r, err := range b.Since(t.Context(), topicN, begin) {
		if err != nil {
			if !errors.Is(err, cluster.ErrTrimmed) {
				t.Errorf("got error %v, want ErrTrimmed", err)
			}
			break
		}
		if got = append(got, textOf(r.Data)); len(got) == 15 {
			s.MustDo(t, "XTRIM", "socket.io", "MAXLEN", "=", "10")
		}
	}
	if len(got) != 20 || !slices.Equal(got, texts[:20]) {
		t.Errorf("got %q, want the first 20 and an error", got)
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

// TestOrder tells by the stream and asks behind it: a question waits for the stream. (What is told behind a question
// waits for it in the node, by its number.)
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
