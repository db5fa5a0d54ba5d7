package recovery_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
	"github.com/atollhq/atoll/recovery/recoverytest"
)

func TestSessions(t *testing.T) {
	recoverytest.TestSessions(t, func(testing.TB) recovery.Sessions { return recovery.NewMemory(nil) }, nil)
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recovery.NewMemory(nil)
		s := &recovery.Session{PID: "p", SID: "s"}
		if err := m.Create(t.Context(), s, time.Minute); err != nil {
			t.Fatal(err)
		}
		for range 120 { // two hours, refreshed each minute but one nanosecond
			time.Sleep(time.Minute - 1)
			if taken, err := m.Update(t.Context(), []*recovery.Session{s}, time.Minute); err != nil || len(taken) > 0 {
				t.Fatalf("got %d taken and error %v, want none", len(taken), err)
			}
		}
		if got := m.Len(); got != 1 {
			t.Errorf("got %d sessions, want 1", got)
		}
		time.Sleep(time.Minute)
		if _, err := m.Take(t.Context(), "p"); !errors.Is(err, recovery.ErrUnknown) {
			t.Errorf("got error %v, want ErrUnknown", err)
		}
		if got := m.Len(); got != 0 {
			t.Errorf("got %d sessions, want 0", got)
		}
	})
}

func TestSessionsBounded(t *testing.T) {
	m := recovery.NewMemory(&recovery.MemoryOptions{MaxSessionBytes: 10_000})
	n, err := 0, error(nil)
	for ; err == nil && n < 100; n++ {
		err = m.Create(t.Context(), &recovery.Session{PID: fmt.Sprint(n), Data: make([]byte, 500)}, time.Hour)
	}
	if !errors.Is(err, recovery.ErrFull) || n < 5 || n > 20 {
		t.Errorf("got error %v after %d sessions, want ErrFull after about 10", err, n)
	}
}

func emit(ns, text string) *cluster.Op {
	return &cluster.Op{Kind: cluster.Emit, Namespace: ns, Data: []byte(text)}
}

// since returns what is behind an offset, as text.
func since(m *recovery.Memory, ns, offset string) (got string, err error) {
	for op, e := range m.Since(ns, offset) {
		if e != nil {
			return got, e
		}
		got += string(op.Data)
	}
	return got, nil
}

func TestLog(t *testing.T) {
	m := recovery.NewMemory(nil)
	start := m.Position()
	var offsets []string
	for i := range 5 {
		offsets = append(offsets, m.Append(emit("/", fmt.Sprint(i))))
		m.Append(emit("/other", "x"))
	}
	for offset, want := range map[string]string{start: "01234", offsets[0]: "1234", offsets[3]: "4", offsets[4]: "", m.Position(): ""} {
		if got, err := since(m, "/", offset); got != want || err != nil {
			t.Errorf("since %s: got %q and error %v, want %q", offset, got, err, want)
		}
	}
	if got, err := since(m, "/other", offsets[2]); got != "xxx" || err != nil {
		t.Errorf("other namespace: got %q and error %v, want xxx", got, err)
	}
	if a, b, c := m.Compare(offsets[1], offsets[2]), m.Compare(offsets[2], offsets[1]), m.Compare(offsets[2], offsets[2]); a != -1 || b != 1 || c != 0 {
		t.Errorf("compare: got %d, %d, %d, want -1, 1, 0", a, b, c)
	}
	another := recovery.NewMemory(nil)
	for _, bad := range []string{"", "x", "1", "-1", offsets[0] + "00", "+" + offsets[0], start[:len(start)-1] + "+1", start[:len(start)-1] + "18446744073709551615", another.Position()} {
		if got, err := since(m, "/", bad); got != "" || !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("since %q: got %q and error %v, want ErrTrimmed", bad, got, err)
		}
	}
	for _, bad := range []string{"", "x", start + "x", another.Position()} {
		if got := m.Compare(bad, start); got != -1 {
			t.Errorf("compare %q: got %d, want -1", bad, got)
		}
	}
}

func TestLogBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := recovery.NewMemory(&recovery.MemoryOptions{MaxBytes: 10 * 300, MaxAge: time.Minute})
		start := m.Position()
		var offsets []string
		for range 30 {
			offsets = append(offsets, m.Append(emit("/", "12345678901234567890123456789012345678901234")))
		}
		if _, err := since(m, "/", start); !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("since the start: got error %v, want ErrTrimmed", err)
		}
		if got, err := since(m, "/", offsets[19]); len(got) != 10*44 || err != nil {
			t.Errorf("since the 20th of 30: got %d bytes and error %v, want 10 events of 44", len(got), err)
		}
		if _, err := since(m, "/", offsets[18]); !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("since the 19th of 30: got error %v, want ErrTrimmed", err)
		}
		time.Sleep(time.Minute + 1)
		if _, err := since(m, "/", offsets[28]); !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("a minute later: got error %v, want ErrTrimmed", err)
		}
		if got, err := since(m, "/", offsets[29]); got != "" || err != nil {
			t.Errorf("since the last: got %q and error %v, want nothing", got, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	m := recovery.NewMemory(nil)
	b.ReportAllocs()
	for b.Loop() {
		m.Append(&cluster.Op{Kind: cluster.Emit, Namespace: "/"})
	}
}

func BenchmarkUpdate(b *testing.B) {
	m := recovery.NewMemory(nil)
	ss := make([]*recovery.Session, 1000)
	for i := range ss {
		ss[i] = &recovery.Session{PID: fmt.Sprint(i), Rooms: []string{"a", "b"}}
		_ = m.Create(b.Context(), ss[i], time.Hour)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Update(b.Context(), ss, time.Hour)
	}
}
