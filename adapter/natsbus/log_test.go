package natsbus

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/recovery"
	"github.com/atollhq/atoll/recovery/recoverytest"
)

func openLog(t testing.TB, url string, o *LogOptions) *Log {
	t.Helper()
	b, err := Connect(t.Context(), url, nil)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	if o == nil {
		o = &LogOptions{}
	}
	o.Logger = silent
	l, err := OpenLog(t.Context(), b, o)
	if err != nil {
		t.Fatalf("OpenLog: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// entry is what a follower got.
type entry struct {
	offset string
	data   string
	gone   bool
}

type records struct {
	mu  sync.Mutex
	all []entry
}

func (r *records) deliver(_, offset string, msg []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, entry{offset, string(msg), msg == nil})
}

func (r *records) data() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s []string
	for _, x := range r.all {
		if x.gone {
			s = append(s, "gone")
		} else {
			s = append(s, x.data)
		}
	}
	return s
}

func follow(t *testing.T, l *Log) *records {
	t.Helper()
	r := &records{}
	if _, err := l.Follow(t.Context(), l.kept, r.deliver); err != nil {
		t.Fatalf("Follow: %v", err)
	}
	return r
}

func TestLog(t *testing.T) {
	s := startServer(t)
	a, b := openLog(t, s.url(), nil), openLog(t, s.url(), nil)
	end, err := a.End(t.Context(), a.kept)
	if err != nil {
		t.Fatal(err)
	}
	ra, rb := follow(t, a), follow(t, b)
	want := []string{"", "x", string(bytes.Repeat([]byte("big"), 10<<20/3)), "last"}
	var offsets []string
	for _, m := range want {
		offset, err := a.Append(t.Context(), a.kept, []byte(m))
		if err != nil {
			t.Fatalf("Append of %d bytes: %v", len(m), err)
		}
		offsets = append(offsets, offset)
	}
	for _, r := range []*records{ra, rb} {
		eventually(t, "all messages", func() bool { return len(r.data()) >= len(want) })
		if got := r.data(); !slices.Equal(got, want) {
			t.Errorf("got %d other messages, want what was appended", len(got))
		}
		for i, x := range r.all {
			if x.offset != offsets[i] {
				t.Errorf("message %d: got offset %s, want %s", i, x.offset, offsets[i])
			}
		}
	}
	if !slices.IsSortedFunc(append([]string{end}, offsets...), a.Compare) || a.Compare(end, end) != 0 || a.Compare(offsets[0], end) != 1 {
		t.Errorf("offsets %s %v are not in order", end, offsets)
	}
	for i, from := range append([]string{end}, offsets...) {
		var got []string
		for r, err := range b.Since(t.Context(), b.kept, from) {
			if err != nil {
				t.Fatalf("Since %d: %v", i, err)
			}
			if r.Offset != offsets[i+len(got)] {
				t.Errorf("Since %d: got offset %s, want %s", i, r.Offset, offsets[i+len(got)])
			}
			got = append(got, string(r.Data))
		}
		if !slices.Equal(got, want[i:]) {
			t.Errorf("Since %d: got %d other messages, want %d", i, len(got), len(want)-i)
		}
	}
	for _, bad := range []string{"", "x", "0-0", "zz-1", offsetOf(a.epoch, 99), offsetOf(a.epoch+1, 0)} {
		for _, err := range b.Since(t.Context(), b.kept, bad) {
			if !errors.Is(err, cluster.ErrTrimmed) {
				t.Errorf("Since(%q): got error %v, want one that wraps ErrTrimmed", bad, err)
			}
		}
	}
	if a.Kept("other") || !a.Kept(a.kept) {
		t.Error("got other topics kept, want what is for all nodes")
	}
	if _, err := a.Append(t.Context(), "other", nil); !errors.Is(err, cluster.ErrUnsupported) {
		t.Errorf("Append to another topic: got error %v, want ErrUnsupported", err)
	}
}

// A follower that was cut off gets everything, each once.
func TestLogGoesOn(t *testing.T) {
	s := startServer(t)
	p := clustertest.NewProxy(t, s.addr)
	a, b := openLog(t, s.url(), nil), openLog(t, "nats://"+p.Addr(), nil)
	r := follow(t, b)
	var want []string
	say := func() {
		t.Helper()
		m := fmt.Sprint(len(want))
		eventually(t, "an Append", func() bool {
			_, err := a.Append(t.Context(), a.kept, []byte(m))
			return err == nil
		})
		want = append(want, m)
	}
	for range 5 {
		for range 100 {
			say()
		}
		p.CutAll()
	}
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	say()
	eventually(t, "all messages", func() bool { return len(r.data()) >= len(want) })
	got := slices.Compact(r.data()) // what was appended without an answer may be there twice
	if !slices.Equal(got, want) {
		t.Errorf("got %d messages %.200v, want %d", len(got), got, len(want))
	}
}

// What went before it could be read is reported.
func TestLogTrimmed(t *testing.T) {
	s := startServer(t)
	p := clustertest.NewProxy(t, s.addr)
	o := &LogOptions{MaxBytes: 64 << 10}
	a, b := openLog(t, s.url(), o), openLog(t, "nats://"+p.Addr(), o)
	r := follow(t, b)
	first, err := a.Append(t.Context(), a.kept, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first message", func() bool { return len(r.data()) == 1 })
	p.Hold()
	p.CutAll()
	for i := range 100 {
		if _, err := a.Append(t.Context(), a.kept, bytes.Repeat([]byte{byte(i)}, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	p.CutAll()
	p.Release()
	if _, err := a.Append(t.Context(), a.kept, []byte("end")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last message", func() bool {
		all := r.data()
		return all[len(all)-1] == "end"
	})
	if all := r.data(); len(all) < 3 || all[1] != "gone" || slices.Contains(all[2:], "gone") {
		t.Errorf("got %d messages, want the second to say that some are gone, and no other", len(all))
	}
	for _, err := range a.Since(t.Context(), a.kept, first) {
		if !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("Since the first: got error %v, want one that wraps ErrTrimmed", err)
		}
		break
	}
}

// A stream that was lost is made anew, and said to be another.
func TestLogIsLost(t *testing.T) {
	s := startServer(t)
	o := &LogOptions{Memory: true}
	a, b := openLog(t, s.url(), o), openLog(t, s.url(), o)
	r := follow(t, b)
	before, err := a.Append(t.Context(), a.kept, []byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first message", func() bool { return len(r.data()) == 1 })
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	var after string
	eventually(t, "an Append to the new stream", func() bool {
		after, err = a.Append(t.Context(), a.kept, []byte("after"))
		return err == nil
	})
	eventually(t, "the message after", func() bool { return len(r.data()) >= 3 })
	if got, want := slices.Compact(r.data()), []string{"before", "gone", "after"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	eventually(t, "later offsets behind earlier ones", func() bool {
		after, err = a.Append(t.Context(), a.kept, []byte("later"))
		return err == nil && a.Compare(before, after) < 0
	})
}

func TestNoJetStream(t *testing.T) {
	s := natsServer(t, -1)
	if _, err := OpenLog(t.Context(), connect(t, s.ClientURL()), nil); !errors.Is(err, ErrNoJetStream) {
		t.Errorf("got error %v, want ErrNoJetStream", err)
	}
}

func TestLogIsABus(t *testing.T) {
	s := startServer(t)
	open := func(t *testing.T) cluster.Bus { return openLog(t, s.url(), nil) }
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, open) })
	t.Run("cluster", func(t *testing.T) { clustertest.TestCluster(t, open) })
}

func TestSessions(t *testing.T) {
	s := startServer(t)
	open := func(t testing.TB) recovery.Sessions { return openLog(t, s.url(), nil) }
	recoverytest.TestSessions(t, open, &recoverytest.Options{TTL: time.Second})
}

func FuzzSession(f *testing.F) {
	f.Add(appendSession("w", &recovery.Session{SID: "s", Rooms: []string{"a", ""}}, 7, time.Now()))
	f.Add(appendGrave("w", 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readSession(b)
		if err != nil || x.grave {
			return
		}
		again, err := readSession(appendSession(x.writer, x.session, x.replaced, x.until))
		if err != nil || !reflect.DeepEqual(again, x) {
			t.Errorf("got %v and error %v, want %v", again, err, x)
		}
	})
}

// An Update and a Take whose answers are lost are known to have happened.
func TestSessionsAnswersLost(t *testing.T) {
	s := startServer(t)
	p := clustertest.NewProxy(t, s.addr)
	l := openLog(t, "nats://"+p.Addr(), nil)
	other := openLog(t, s.url(), nil)
	for round := range 5 {
		x := &recovery.Session{PID: fmt.Sprint("pid", round), SID: "sid", Namespace: "/", Rooms: []string{"sid"}}
		if err := l.Create(t.Context(), x, time.Minute); err != nil {
			t.Fatal(err)
		}
		// As if the answer to this one had been lost: the store has it, and x does not know.
		lost := *x
		if taken, err := l.Update(t.Context(), []*recovery.Session{&lost}, time.Minute); len(taken) > 0 || err != nil {
			t.Fatalf("got %v taken and error %v, want none", taken, err)
		}
		x.Data = []byte("2")
		if taken, err := l.Update(t.Context(), []*recovery.Session{x}, time.Minute); len(taken) > 0 || err != nil {
			t.Fatalf("after an answer was lost: got %v taken and error %v, want none", taken, err)
		}
		p.Cut(1) // in the middle of what is said next
		got, err := l.Take(t.Context(), x.PID)
		if err != nil || string(got.Data) != "2" || got.Revision != x.Revision {
			t.Fatalf("got %+v and error %v, want %+v", got, err, x)
		}
		if _, err := other.Take(t.Context(), x.PID); !errors.Is(err, recovery.ErrUnknown) {
			t.Errorf("second Take: got error %v, want one that wraps ErrUnknown", err)
		}
		if taken, err := l.Update(t.Context(), []*recovery.Session{x}, time.Minute); len(taken) != 1 || err != nil {
			t.Errorf("after Take: got %d taken and error %v, want one", len(taken), err)
		}
	}
}
