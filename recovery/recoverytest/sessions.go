// Package recoverytest tests implementations of recovery.Sessions:
//
//	func TestSessions(t *testing.T) { recoverytest.TestSessions(t, open, nil) }
package recoverytest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/recovery"
)

// Options are the settings of the tests. A nil *Options means all defaults.
type Options struct {
	// TTL is the shortest time to live that the store can do. If zero, 100 milliseconds. What
	// the tests want to last lives a minute.
	TTL time.Duration

	// Patience is how long a test waits for what must happen at last. If zero, 30 seconds.
	Patience time.Duration

	// Many is how many sessions the test of many makes. If zero, 1,000.
	Many int
}

const long = time.Minute

type suite struct {
	o    Options
	open func(t testing.TB) recovery.Sessions
}

// TestSessions runs all tests. open returns the store, which may be the same each time, and may hold
// sessions of others; it has t close what it opened.
func TestSessions(t *testing.T, open func(t testing.TB) recovery.Sessions, o *Options) {
	x := &suite{open: open}
	if o != nil {
		x.o = *o
	}
	if x.o.TTL <= 0 {
		x.o.TTL = 100 * time.Millisecond
	}
	if x.o.Patience <= 0 {
		x.o.Patience = 30 * time.Second
	}
	if x.o.Many <= 0 {
		x.o.Many = 1000
	}
	t.Run("CreateTake", x.createTake)
	t.Run("Values", x.values)
	t.Run("Revisions", x.revisions)
	t.Run("UpdateAfterTake", x.updateAfterTake)
	t.Run("UpdateAfterCreate", x.updateAfterCreate)
	t.Run("Drop", x.drop)
	t.Run("TTL", x.ttl)
	t.Run("Unknown", x.unknown)
	t.Run("Keeps", x.keepsNothing)
	t.Run("Race", x.race)
	t.Run("RaceUpdate", x.raceUpdate)
	t.Run("Many", x.many)
	t.Run("Context", x.context)
}

func newSession() *recovery.Session {
	sid := rand.Text()[:20]
	return &recovery.Session{PID: rand.Text(), SID: sid, Namespace: "/", Rooms: []string{sid, "room"}, Data: []byte(`{"a":1}`), Offset: "12-3", Last: "12-1", Start: "11-0"}
}

func create(t *testing.T, store recovery.Sessions, s *recovery.Session, ttl time.Duration) {
	t.Helper()
	if err := store.Create(t.Context(), s, ttl); err != nil {
		t.Fatalf("Create: %v", err)
	}
	if s.Revision == "" {
		t.Fatal("Create: got no revision, want one")
	}
}

// update updates s and says whether it was taken.
func update(t *testing.T, store recovery.Sessions, s *recovery.Session, ttl time.Duration) (taken bool) {
	t.Helper()
	got, err := store.Update(t.Context(), []*recovery.Session{s}, ttl)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	if len(got) > 1 || len(got) == 1 && got[0] != s {
		t.Fatalf("Update: got %v as taken, want the session given or none", got)
	}
	return len(got) == 1
}

func take(t *testing.T, store recovery.Sessions, pid string) *recovery.Session {
	t.Helper()
	s, err := store.Take(t.Context(), pid)
	if err != nil {
		t.Fatalf("Take: got error %v, want the session", err)
	}
	return s
}

func wantUnknown(t *testing.T, store recovery.Sessions, pid string) {
	t.Helper()
	if s, err := store.Take(t.Context(), pid); !errors.Is(err, recovery.ErrUnknown) {
		t.Fatalf("Take: got %v and error %v, want ErrUnknown", s, err)
	}
}

func wantSame(t *testing.T, got, want *recovery.Session) {
	t.Helper()
	if got.PID != want.PID || got.SID != want.SID || got.Namespace != want.Namespace || !slices.Equal(got.Rooms, want.Rooms) ||
		string(got.Data) != string(want.Data) || got.Offset != want.Offset || got.Last != want.Last || got.Start != want.Start || got.Revision != want.Revision {
		t.Fatalf("got session %.2000q, want %.2000q", fmt.Sprintf("%+v", *got), fmt.Sprintf("%+v", *want))
	}
}

func (x *suite) createTake(t *testing.T) {
	store := x.open(t)
	s := newSession()
	create(t, store, s, long)
	wantSame(t, take(t, store, s.PID), s)
	wantUnknown(t, store, s.PID)
	create(t, store, s, long) // the same again, after it was taken
	wantSame(t, take(t, store, s.PID), s)
}

// values stores what is hostile, empty and large.
func (x *suite) values(t *testing.T) {
	store := x.open(t)
	unique := rand.Text()
	hostile := []string{"", " ", "a b", "a\x00b", "\xff\xfe", "日本", `"'\`, "{}[]*?", "..", "a/b:c.d>e", "\r\n", strings.Repeat("x", 300)}
	for _, h := range hostile {
		s := newSession()
		s.PID, s.SID, s.Namespace, s.Rooms = unique+h, "sid"+h, "/"+h, append([]string{"sid" + h}, hostile...)
		create(t, store, s, long)
		s.Rooms = append(s.Rooms, "one more")
		if update(t, store, s, long) {
			t.Fatalf("%q: got the update as taken, want it stored", h)
		}
		wantSame(t, take(t, store, s.PID), s)
	}
	for name, change := range map[string]func(*recovery.Session){
		"no data":      func(s *recovery.Session) { s.Data = nil },
		"empty data":   func(s *recovery.Session) { s.Data = []byte{} },
		"JSON null":    func(s *recovery.Session) { s.Data = []byte("null") },
		"unicode data": func(s *recovery.Session) { s.Data = []byte(`{"é":"😀\u0000"}`) },
		"no rooms":     func(s *recovery.Session) { s.Rooms = nil },
		"no places":    func(s *recovery.Session) { s.Offset, s.Last, s.Start, s.Namespace = "", "", "", "" },
		"large data":   func(s *recovery.Session) { s.Data = []byte(`"` + strings.Repeat("x", 200<<10) + `"`) },
		"many rooms": func(s *recovery.Session) {
			for i := range 2000 {
				s.Rooms = append(s.Rooms, fmt.Sprint("room ", i))
			}
		},
	} {
		s := newSession()
		change(s)
		create(t, store, s, long)
		if t.Run(name, func(t *testing.T) { wantSame(t, take(t, store, s.PID), s) }); t.Failed() {
			return
		}
	}
}

func (x *suite) revisions(t *testing.T) {
	store := x.open(t)
	s := newSession()
	create(t, store, s, long)
	seen := map[string]bool{s.Revision: true}
	for i := range 5 {
		if i%2 == 0 { // also where nothing changed
			s.Rooms = append(s.Rooms, fmt.Sprint(i))
		}
		if update(t, store, s, long) {
			t.Fatal("Update: got the session as taken, want it stored")
		}
		if seen[s.Revision] {
			t.Fatalf("got revision %q again, want a new one for each state", s.Revision)
		}
		seen[s.Revision] = true
	}
	wantSame(t, take(t, store, s.PID), s)
	create(t, store, s, long)
	if seen[s.Revision] {
		t.Fatalf("Create: got revision %q again, want a new one", s.Revision)
	}
	wantSame(t, take(t, store, s.PID), s)
}

func (x *suite) updateAfterTake(t *testing.T) {
	store := x.open(t)
	s, other := newSession(), newSession()
	create(t, store, s, long)
	create(t, store, other, long)
	take(t, store, s.PID)
	was := other.Revision
	taken, err := store.Update(t.Context(), []*recovery.Session{s, other}, long)
	if err != nil || len(taken) != 1 || taken[0] != s {
		t.Fatalf("got %d taken and error %v, want the one that was", len(taken), err)
	}
	if other.Revision == was {
		t.Error("got the old revision for the session that was updated beside it, want a new one")
	}
	wantUnknown(t, store, s.PID) // it was not stored
	wantSame(t, take(t, store, other.PID), other)
}

func (x *suite) updateAfterCreate(t *testing.T) {
	store := x.open(t)
	mine := newSession()
	create(t, store, mine, long)
	theirs := take(t, store, mine.PID)
	theirs.Rooms = append(theirs.Rooms, "theirs")
	create(t, store, theirs, long)
	if !update(t, store, mine, long) {
		t.Fatal("got an update of the old revision stored, want it as taken")
	}
	over := *theirs // created over it, without taking it
	create(t, store, &over, long)
	if !update(t, store, theirs, long) {
		t.Fatal("got an update of an overwritten revision stored, want it as taken")
	}
	wantSame(t, take(t, store, mine.PID), &over)
}

func (x *suite) drop(t *testing.T) {
	store := x.open(t)
	s := newSession()
	create(t, store, s, long)
	old := *s
	if update(t, store, s, long) {
		t.Fatal("Update: got the session as taken, want it stored")
	}
	if err := store.Drop(t.Context(), &old); err != nil {
		t.Fatalf("Drop of an old revision: got error %v, want none", err)
	}
	wantSame(t, take(t, store, s.PID), s)
	create(t, store, s, long)
	if err := store.Drop(t.Context(), s); err != nil {
		t.Fatalf("Drop: %v", err)
	}
	wantUnknown(t, store, s.PID)
	if err := store.Drop(t.Context(), s); err != nil {
		t.Fatalf("Drop of what is gone: got error %v, want none", err)
	}
	if !update(t, store, s, long) {
		t.Error("got an update of a dropped session stored, want it as taken")
	}
}

// eventually waits for a condition. What it calls must not change what it asks for.
func (x *suite) eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(x.o.Patience); !cond(); time.Sleep(x.o.TTL / 4) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, x.o.Patience)
		}
	}
}

// ttl has sessions whose time is up, and sessions whose time was extended. A session
// can be looked at only by taking it, so each look has one of its own.
func (x *suite) ttl(t *testing.T) {
	store := x.open(t)
	short, kept, shortened, over := newSession(), newSession(), newSession(), newSession()
	create(t, store, short, x.o.TTL)
	create(t, store, kept, long)
	create(t, store, shortened, long)
	if update(t, store, shortened, x.o.TTL) {
		t.Fatal("Update: got the session as taken, want it stored")
	}
	create(t, store, over, x.o.TTL)
	create(t, store, over, long) // a new one, with a time of its own
	time.Sleep(3 * x.o.TTL)
	x.eventually(t, "a session whose time is up is gone", func() bool {
		s := newSession()
		create(t, store, s, x.o.TTL)
		time.Sleep(2 * x.o.TTL)
		_, err := store.Take(t.Context(), s.PID)
		return errors.Is(err, recovery.ErrUnknown)
	})
	wantUnknown(t, store, short.PID)
	wantUnknown(t, store, shortened.PID)
	wantSame(t, take(t, store, kept.PID), kept)
	wantSame(t, take(t, store, over.PID), over)
	if !update(t, store, short, long) {
		t.Error("got an update stored after the time was up, want it as taken")
	}
}

func (x *suite) unknown(t *testing.T) {
	store := x.open(t)
	for _, pid := range []string{"", "unknown " + rand.Text(), "\x00", "日本", "*", strings.Repeat("x", 10_000)} {
		wantUnknown(t, store, pid)
	}
}

// keepsNothing changes what was given, and what was returned.
func (x *suite) keepsNothing(t *testing.T) {
	store := x.open(t)
	s := newSession()
	want := *s
	want.Rooms, want.Data = slices.Clone(s.Rooms), slices.Clone(s.Data)
	create(t, store, s, long)
	s.Rooms[1], s.Data[0], s.SID = "changed", 'x', "changed"
	want.Revision = s.Revision
	wantSame(t, take(t, store, s.PID), &want)
}

// race has many try to take the same sessions.
func (x *suite) race(t *testing.T) {
	store := x.open(t)
	const rounds, takers = 10, 8
	for range rounds {
		s := newSession()
		create(t, store, s, long)
		var won, lost, failed atomic.Int64
		var wg sync.WaitGroup
		for range takers {
			wg.Go(func() {
				switch _, err := store.Take(t.Context(), s.PID); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, recovery.ErrUnknown):
					lost.Add(1)
				default:
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != takers-1 {
			t.Fatalf("got %d winners, %d ErrUnknown and %d other errors of %d, want 1, %d and 0", won.Load(), lost.Load(), failed.Load(), takers, takers-1)
		}
	}
}

// raceUpdate has one take what another updates: what the taker has is the last that was stored.
func (x *suite) raceUpdate(t *testing.T) {
	store := x.open(t)
	for range 10 {
		s := newSession()
		create(t, store, s, long)
		pid, last := s.PID, s.Revision
		var wg sync.WaitGroup
		var got *recovery.Session
		var err error
		wg.Go(func() { got, err = store.Take(t.Context(), pid) })
		for range 5 {
			if update(t, store, s, long) {
				break
			}
			last = s.Revision
		}
		wg.Wait()
		if err != nil {
			t.Fatalf("Take: %v", err)
		}
		if got.Revision != last {
			t.Fatalf("got revision %q, want %q, the last that was stored", got.Revision, last)
		}
		if !update(t, store, s, long) {
			t.Fatal("got an update stored after the session was taken")
		}
	}
}

func (x *suite) many(t *testing.T) {
	store := x.open(t)
	ss := make([]*recovery.Session, x.o.Many)
	var wg sync.WaitGroup
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ss); i += workers {
				ss[i] = newSession()
				if err := store.Create(t.Context(), ss[i], long); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	if wg.Wait(); t.Failed() {
		return
	}
	for i, s := range ss {
		s.Rooms = append(s.Rooms, fmt.Sprint(i))
	}
	gone := ss[len(ss)/2]
	take(t, store, gone.PID)
	taken, err := store.Update(t.Context(), ss, long) // all in one call
	if err != nil || len(taken) != 1 || taken[0] != gone {
		t.Fatalf("Update of %d: got %d taken and error %v, want 1", len(ss), len(taken), err)
	}
	if taken, err := store.Update(t.Context(), nil, long); err != nil || len(taken) != 0 {
		t.Fatalf("Update of none: got %d taken and error %v, want 0", len(taken), err)
	}
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ss); i += workers {
				if ss[i] == gone {
					continue
				}
				got, err := store.Take(t.Context(), ss[i].PID)
				if err != nil {
					t.Errorf("Take: %v", err)
				} else if want := fmt.Sprint(i); got.Rooms[len(got.Rooms)-1] != want || got.Revision != ss[i].Revision {
					t.Errorf("got rooms %q and revision %q, want %q at the end and %q", got.Rooms, got.Revision, want, ss[i].Revision)
				}
			}
		})
	}
	wg.Wait()
}

// context calls under a context that has ended: no method waits, and a session that
// Take returned no error for is the only one that is gone.
func (x *suite) context(t *testing.T) {
	store := x.open(t)
	s := newSession()
	create(t, store, s, long)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = store.Create(ctx, newSession(), long) // it may, or may not
		_, _ = store.Update(ctx, []*recovery.Session{newSession()}, long)
		_ = store.Drop(ctx, newSession())
	}()
	select {
	case <-done:
	case <-time.After(x.o.Patience):
		t.Fatalf("calls under an ended context have not returned after %v", x.o.Patience)
	}
	got, err := store.Take(ctx, s.PID)
	if err != nil {
		if errors.Is(err, recovery.ErrUnknown) {
			t.Fatalf("Take under an ended context: got %v, want the session or the context's error", err)
		}
		return // it may have been taken all the same: nobody can know
	}
	wantSame(t, got, s)
}
