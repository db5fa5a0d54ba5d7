//go:build unix

package pgbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/pgtest"
	"github.com/atollhq/atoll/recovery"
	"github.com/atollhq/atoll/recovery/recoverytest"
)

// records collects what a follower gets.
type records struct {
	mu  sync.Mutex
	all []cluster.Record
}

func (r *records) deliver(_, offset string, msg []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, cluster.Record{Offset: offset, Data: msg})
}

func (r *records) get() []cluster.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *records) data() (s []string) {
	for _, x := range r.get() {
		if x.Data == nil {
			s = append(s, "gone")
		} else {
			s = append(s, string(x.Data))
		}
	}
	return s
}

func follow(t *testing.T, l *Log, topic string) *records {
	t.Helper()
	r := &records{}
	if _, err := l.Follow(t.Context(), topic, r.deliver); err != nil {
		t.Fatalf("Follow: %v", err)
	}
	return r
}

func openLog(t testing.TB, url string, o LogOptions) *Log {
	t.Helper()
	o.Logger = quiet
	l := NewLog(dial(t, url), &o)
	t.Cleanup(func() { l.Close() })
	return l
}

func since(t *testing.T, l *Log, topic, offset string) (got []string, err error) {
	for r, err := range l.Since(t.Context(), topic, offset) {
		if err != nil {
			return got, err
		}
		got = append(got, string(r.Data))
	}
	return got, nil
}

func TestLog(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	a, b := openLog(t, url, LogOptions{}), openLog(t, url, LogOptions{})
	end, err := a.End(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	ra, rb := follow(t, a, "topic"), follow(t, b, "topic")
	other := follow(t, b, "other")
	want := []string{"", "x", "\x00\xff", strings.Repeat("y", 5900), strings.Repeat("z", 5990), strings.Repeat("big", 10<<20/3), "last"}
	var offsets []string
	for _, m := range want {
		offset, err := a.Append(t.Context(), "topic", []byte(m))
		if err != nil {
			t.Fatalf("Append of %d bytes: %v", len(m), err)
		}
		offsets = append(offsets, offset)
	}
	for _, r := range []*records{ra, rb} {
		eventually(t, "all messages", func() bool { return len(r.get()) >= len(want) })
		if got := r.data(); !slices.Equal(got, want) {
			t.Errorf("got %d other messages, want what was appended", len(got))
		}
		for i, x := range r.get() {
			if x.Offset != offsets[i] {
				t.Errorf("message %d: got offset %s, want %s", i, x.Offset, offsets[i])
			}
		}
	}
	if got := other.data(); len(got) > 0 {
		t.Errorf("got %q on another topic, want nothing", got)
	}
	if !slices.IsSortedFunc(append([]string{end}, offsets...), a.Compare) || a.Compare(end, end) != 0 || a.Compare("10", "9") != 1 || a.Compare("x", "0") != -1 {
		t.Errorf("offsets %s %v are not in order", end, offsets)
	}
	for i, from := range append([]string{end}, offsets...) {
		got, err := since(t, b, "topic", from)
		if err != nil || !slices.Equal(got, want[i:]) {
			t.Errorf("Since %d: got %d messages and error %v, want the last %d", i, len(got), err, len(want)-i)
		}
	}
	for _, bad := range []string{"", "x", "-1", "+1", "99999", "1 "} {
		if _, err := since(t, b, "topic", bad); !errors.Is(err, cluster.ErrTrimmed) {
			t.Errorf("Since(%q): got error %v, want one that wraps ErrTrimmed", bad, err)
		}
	}
	if now, err := a.End(t.Context(), "topic"); err != nil || a.Compare(now, offsets[len(offsets)-1]) < 0 {
		t.Errorf("got end %s and error %v, want the last offset or later", now, err)
	}
}

// TestLogOrder has many append at once, and reads the table meanwhile: what becomes visible
// is always behind what was visible.
func TestLogOrder(t *testing.T) {
	const writers, each = 6, 100
	s := server(t)
	url := s.URL(s.Database(t))
	r := follow(t, openLog(t, url, LogOptions{}), "topic")
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		l := openLog(t, url, LogOptions{})
		for range 2 {
			wg.Go(func() {
				for k := range each / 2 {
					if _, err := l.Append(t.Context(), "topic", fmt.Appendf(nil, "%d-%d", i, k)); err != nil {
						t.Errorf("Append: %v", err)
						return
					}
				}
			})
		}
	}
	go func() { wg.Wait(); close(done) }()
	var seen []int64
	last := int64(0)
	for ended := false; ; {
		rows, err := c.Query(t.Context(), "SELECT id FROM atoll_log WHERE topic = 'topic' AND id > $1 ORDER BY id", last)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, ids...)
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
		if ended {
			break
		}
		select {
		case <-done:
			ended = true
		default:
		}
	}
	if len(seen) != writers*each {
		t.Errorf("reading on from the last row gave %d rows, want %d", len(seen), writers*each)
	}
	eventually(t, "all messages", func() bool { return len(r.get()) >= writers*each })
	for i, x := range r.get() {
		if x.Offset != fmt.Sprint(seen[i]) {
			t.Fatalf("message %d: got offset %s, want %d", i, x.Offset, seen[i])
		}
	}
}

// TestLogKilled kills PostgreSQL between and during what is appended: a follower gets all that
// was taken, each once, in order.
func TestLogKilled(t *testing.T) {
	s := pgtest.Start(t)
	url := s.URL(s.Database(t))
	a, b := openLog(t, url, LogOptions{}), openLog(t, url, LogOptions{})
	r := follow(t, b, "topic")
	taken := make(map[string]bool)
	start, _ := a.End(t.Context(), "topic")
	for round := range 3 {
		for k := range 50 {
			m := fmt.Sprintf("%d-%d", round, k)
			if k%10 == 9 {
				m += strings.Repeat(" ", 9000)
			}
			if k == 25 {
				go s.Kill()
			}
			if _, err := a.Append(t.Context(), "topic", []byte(m)); err == nil {
				taken[m] = true
			}
		}
		s.Kill()
		if _, err := a.Append(t.Context(), "topic", []byte("away")); !errors.Is(err, ErrAway) {
			t.Errorf("Append without PostgreSQL: got error %v, want ErrAway", err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an append", func() bool {
			_, err := a.Append(t.Context(), "topic", fmt.Append(nil, "back ", round))
			return err == nil
		})
	}
	eventually(t, "the last message", func() bool { return slices.Contains(r.data(), "back 2") })
	got := r.data()
	kept, err := since(t, b, "topic", start)
	if err != nil || !slices.Equal(got, kept) {
		t.Errorf("followed %d messages, the log has %d (error %v), want the same", len(got), len(kept), err)
	}
	for _, m := range got {
		delete(taken, m)
	}
	if len(taken) > 0 {
		t.Errorf("%d messages that were taken did not come", len(taken))
	}
	if st := b.Stats(); st.Reconnects == 0 || st.Missing > 0 {
		t.Errorf("got %+v, want reconnects and nothing missing", st)
	}
}

// TestTrim keeps messages for a moment: who was away for longer is told.
func TestTrim(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	a := openLog(t, url, LogOptions{Keep: -1, MaxRows: -1})
	first, err := a.Append(t.Context(), "topic", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	r := follow(t, a, "topic")
	// Somebody who reads late: the position is set back behind what is removed.
	for range 20 {
		if _, err := a.Append(t.Context(), "topic", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all messages", func() bool { return len(r.get()) == 20 })
	b := openLog(t, url, LogOptions{Keep: -1, MaxRows: 5})
	if err := b.trimOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := since(t, a, "topic", first); !errors.Is(err, cluster.ErrTrimmed) {
		t.Errorf("Since what was removed: got error %v, want ErrTrimmed", err)
	}
	last := r.get()[14].Offset
	if got, err := since(t, a, "topic", last); err != nil || len(got) != 5 {
		t.Errorf("Since what is just not removed: got %d messages and error %v, want 5", len(got), err)
	}
	late := openLog(t, url, LogOptions{Keep: -1, MaxRows: -1})
	lr := follow(t, late, "topic")
	at, _ := number(first)
	late.reader.close() // the test is its reader now
	late.stop()
	late.tasks.Wait()
	late.pos = at
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if err := late.catchUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, want := lr.data(), []string{"gone", "x", "x", "x", "x", "x"}; !slices.Equal(got, want) {
		t.Errorf("who reads late got %q, want %q", got, want)
	}
	if got := lr.get()[0].Offset; got != last {
		t.Errorf("got the gap up to %s, want up to %s", got, last)
	}
	// By age.
	old := openLog(t, url, LogOptions{Keep: time.Millisecond})
	time.Sleep(5 * time.Millisecond)
	if err := old.trimOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	end, err := a.End(t.Context(), "topic")
	if got, err2 := since(t, a, "topic", end); err != nil || err2 != nil || len(got) > 0 {
		t.Errorf("Since the end of a log that was emptied: got %q, errors %v and %v, want nothing", got, err, err2)
	}
	if a.Compare(end, r.get()[19].Offset) != 0 {
		t.Errorf("got end %s, want that of the last message", end)
	}
}

// TestSetBack: when the server has lost what it had not written to disk, numbers that were seen are
// not given again by who has seen them.
func TestSetBack(t *testing.T) {
	s := server(t)
	database := s.Database(t)
	url := s.URL(database)
	a := openLog(t, url, LogOptions{Async: true, KeepAlive: 50 * time.Millisecond})
	r := follow(t, a, "topic")
	for range 10 {
		if _, err := a.Append(t.Context(), "topic", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all messages", func() bool { return len(r.get()) == 10 })
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "DELETE FROM atoll_log WHERE id > 3; SELECT setval('atoll_log_id_seq', 3)"); err != nil {
		t.Fatal(err)
	}
	s.Terminate(t)
	eventually(t, "an append", func() bool {
		_, err := a.Append(t.Context(), "topic", []byte("new"))
		return err == nil
	})
	eventually(t, "the new message", func() bool { return slices.Contains(r.data(), "new") })
}

func TestSessions(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	recoverytest.TestSessions(t, func(t testing.TB) recovery.Sessions { return openLog(t, url, LogOptions{}) }, nil)
}

// TestSchema makes the tables by hand, in a schema of their own, for servers that may not.
func TestSchema(t *testing.T) {
	s := server(t)
	database := s.Database(t)
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	o := LogOptions{Table: `app.My"Log`}
	for _, sql := range append([]string{"CREATE SCHEMA app", "CREATE ROLE node LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"}, Schema(&o)...) {
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, sql := range Schema(&o) { // again does no harm
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if _, err := c.Exec(ctx, "GRANT USAGE ON SCHEMA app TO node; GRANT ALL ON ALL TABLES IN SCHEMA app TO node; GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO node"); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(s.URL(database), "postgres@", "node@", 1)
	l := openLog(t, url, o)
	r := follow(t, l, "topic")
	if err := l.Publish(t.Context(), "topic", []byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { return len(r.get()) == 1 })
	if err := l.trimOnce(t.Context()); err != nil {
		t.Errorf("trim: %v", err)
	}

	poor := openLog(t, url, LogOptions{Table: "none"})
	if _, err := poor.Follow(t.Context(), "topic", func(string, string, []byte) {}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Follow without tables and the right to make them: got error %v, want one that says so", err)
	}
}

func FuzzReadSession(f *testing.F) {
	f.Add(appendSession(nil, &recovery.Session{SID: "s", Rooms: []string{"a", ""}, Data: []byte("{}"), Offset: "1"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s recovery.Session
		if readSession(b, &s) == nil {
			var again recovery.Session
			if err := readSession(appendSession(nil, &s), &again); err != nil {
				t.Errorf("what was read cannot be read again: %v", err)
			}
		}
	})
}
