//go:build unix

package redisstream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

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
