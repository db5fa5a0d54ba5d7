//go:build unix

package pgbus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

func openBus(t testing.TB, url string, o Options) *Bus {
	t.Helper()
	o.Logger = quiet
	b := New(dial(t, url), &o)
	t.Cleanup(func() { b.Close() })
	return b
}

func subscribe(t testing.TB, b cluster.Bus, topic string) *mail {
	t.Helper()
	m := &mail{}
	if _, err := b.Subscribe(t.Context(), topic, m.deliver); err != nil {
		t.Fatalf("Subscribe(%q): %v", topic, err)
	}
	return m
}

// A stranger is what a Node.js node is for PostgreSQL: a connection that listens, and notifies.
type stranger struct {
	*pgx.Conn
}

func newStranger(t *testing.T, url string, channels ...string) stranger {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	for _, channel := range channels {
		if _, err := c.Exec(t.Context(), listen(channel)); err != nil {
			t.Fatal(err)
		}
	}
	return stranger{c}
}

func (s stranger) notify(t *testing.T, channel, payload string) {
	t.Helper()
	if _, err := s.Exec(t.Context(), "SELECT pg_notify($1, $2)", channel, payload); err != nil {
		t.Fatal(err)
	}
}

// next returns what comes next.
func (s stranger) next(t *testing.T) (channel, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := s.WaitForNotification(ctx)
	if err != nil {
		t.Fatalf("no notification: %v", err)
	}
	return n.Channel, n.Payload
}

// sized is an event whose message in JSON has so many bytes.
func sized(t *testing.T, d *Dialect, size int) (*cluster.Message, string) {
	t.Helper()
	m := func(n int) *cluster.Message {
		return &cluster.Message{Kind: cluster.Tell, From: "me", Namespace: "/", Op: &cluster.Op{
			Kind: cluster.Emit, Namespace: "/", Data: []byte(`["sized","` + strings.Repeat("x", n) + `"]`)}}
	}
	short, err := official.AppendJSON(nil, m(0))
	if err != nil {
		t.Fatal(err)
	}
	n := size - len(short)
	return m(n), `["sized","` + strings.Repeat("x", n) + `"]`
}

// TestSizes: what fits into a notification is one, and what does not lies in a row: the limit of
// PostgreSQL is below 8000 bytes, not at it.
func TestSizes(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	a, b := openBus(t, url, Options{}), openBus(t, url, Options{})
	got := subscribe(t, b, "socket.io#/")
	node := newStranger(t, url, "socket.io#/")
	for i, x := range []struct {
		size int
		row  bool
	}{{7998, false}, {7999, false}, {8000, true}, {8001, true}, {10 << 20, true}, {200, false}} {
		m, event := sized(t, a.dialect, x.size)
		topic, data, err := a.dialect.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Publish(t.Context(), topic, data); err != nil {
			t.Fatalf("%d bytes: %v", x.size, err)
		}
		_, payload := node.next(t)
		var header map[string]any
		if err := json.Unmarshal([]byte(payload), &header); err != nil {
			t.Fatal(err)
		}
		if _, row := header["attachmentId"].(string); row != x.row || header["uid"] != "me" || header["type"] != 3.0 || row && len(header) != 3 {
			t.Errorf("%d bytes: got a notification of %d bytes, %.100s", x.size, len(payload), payload)
		}
		eventually(t, "the message", func() bool { return len(got.all()) == i+1 })
		back, err := b.dialect.Decode("other", topic, []byte(got.all()[i]))
		if err != nil || back == nil || string(back.Op.Data) != event {
			t.Errorf("%d bytes: got another event, error %v", x.size, err)
		}
	}
}

// TestNamespaces: names are only names, also those that are too long for a channel: several of them
// have one channel, which is where Node.js nodes listen.
func TestNamespaces(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	a, b := openBus(t, url, Options{}), openBus(t, url, Options{})
	long := "/" + strings.Repeat("n", 52)
	names := []string{
		"/", `/x"; CREATE TABLE hacked (); --`, `/'`, `/"`, "/a\x00b", "/" + strings.Repeat("ü", 150), long, long + "1", long + "2",
		"/" + strings.Repeat("long", 75), "/#", "/socket.io#/", `/\`, "/$1", "/%s",
	}
	mails := make([]*mail, len(names))
	for i, name := range names {
		mails[i] = subscribe(t, b, "socket.io#"+name)
	}
	for i, name := range names {
		for _, data := range []string{`["small"]`, `["large","` + strings.Repeat("x", 9000) + `"]`} {
			m := &cluster.Message{Kind: cluster.Tell, From: "me", Namespace: name, Op: &cluster.Op{Kind: cluster.Emit, Namespace: name, Data: []byte(data)}}
			topic, msg, err := a.dialect.Encode(m)
			if err == nil {
				err = a.Publish(t.Context(), topic, msg)
			}
			if err != nil {
				t.Fatalf("namespace %d, %q: %v", i, name, err)
			}
		}
	}
	read := func(i int) (n int) {
		for _, msg := range mails[i].all() {
			m, err := b.dialect.Decode("other", "socket.io#"+names[i], []byte(msg))
			if err != nil {
				t.Fatalf("namespace %q: %v", names[i], err)
			}
			if m != nil {
				n++
			}
		}
		return n
	}
	for i, name := range names {
		eventually(t, fmt.Sprintf("both messages in %q", name), func() bool { return read(i) == 2 })
	}
	// An official emitter says no namespace, so it means that of the channel.
	emitter := newStranger(t, url)
	emitter.notify(t, "socket.io#"+long, `{"type":3,"data":{"packet":{"type":2,"data":["from emitter"],"nsp":"`+long+`"},"opts":{"rooms":[],"flags":{},"except":[]}},"uid":"emitter"}`)
	eventually(t, "the emitter's message", func() bool { return read(slices.Index(names, long)) == 3 })
	for _, other := range []string{long + "1", long + "2"} {
		if got := read(slices.Index(names, other)); got != 2 {
			t.Errorf("in a namespace on the same channel: got %d messages, want 2", got)
		}
	}
	if _, err := emitter.Exec(t.Context(), "SELECT * FROM hacked"); code(err) != undefinedTable {
		t.Errorf("a namespace was performed as SQL: error %v", err)
	}
}

// TestPooler goes through something that does with LISTEN what PgBouncer does in transaction
// mode: nothing. The bus says so.
func TestPooler(t *testing.T) {
	s := server(t)
	url := strings.Replace(s.URL(s.Database(t)), s.Addr(), withoutNotifications(t, s.Addr()), 1)
	each(t, func(t *testing.T, f format) {
		b := f.open(dial(t, url), 5*time.Second)
		defer b.Close()
		start := time.Now()
		_, err := b.Subscribe(t.Context(), "socket.io#/", func(string, []byte) {})
		if !errors.Is(err, ErrPooler) {
			t.Errorf("got error %v after %v, want ErrPooler", err, time.Since(start))
		}
	})
}

// TestRefused: what another try would not help is said at once.
func TestRefused(t *testing.T) {
	s := server(t)
	each(t, func(t *testing.T, f format) {
		b := f.open(dial(t, s.URL("nowhere")), 5*time.Second)
		defer b.Close()
		_, err := b.Subscribe(t.Context(), "topic", func(string, []byte) {})
		if err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("got error %v, want one that says that the database does not exist", err)
		}
	})
}

// TestOrderOfTopics: what one goroutine publishes keeps its order on all topics together.
func TestOrderOfTopics(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	each(t, func(t *testing.T, f format) {
		pool := dial(t, url)
		a, b := f.open(pool, 5*time.Second), f.open(pool, 5*time.Second)
		defer a.Close()
		defer b.Close()
		m := &mail{}
		topics := []string{"socket.io#/", "socket.io#/x", "other"}
		for _, topic := range topics {
			if _, err := b.Subscribe(t.Context(), topic, m.deliver); err != nil {
				t.Fatal(err)
			}
		}
		var want []string
		for i := range 200 {
			msg := fmt.Sprintf(`{"n":%d}`, i)
			if i%7 == 3 {
				msg += strings.Repeat(" ", 8000)
			}
			want = append(want, msg)
			if err := a.Publish(t.Context(), topics[i%3], []byte(msg)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all messages", func() bool { return len(m.all()) == len(want) })
		if !slices.Equal(m.all(), want) {
			for i, msg := range m.all() {
				if msg != want[i] {
					t.Fatalf("message %d: got %.20q, want %.20q", i, msg, want[i])
				}
			}
		}
	})
}

// TestTwins: PostgreSQL sends equal notifications of one transaction once. Ours are all sent.
func TestTwins(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	each(t, func(t *testing.T, f format) {
		pool := dial(t, url)
		b := f.open(pool, 5*time.Second)
		defer b.Close()
		m := subscribe(t, b, "socket.io#/")
		done := make(chan error)
		const count = 100
		for range count {
			go func() { done <- b.Publish(t.Context(), "socket.io#/", []byte(`{"same":1}`)) }()
		}
		for range count {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		eventually(t, "all messages", func() bool { return len(m.all()) == count })
	})
}

// TestMissingRow: a row that somebody has removed is counted, and what follows comes.
func TestMissingRow(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	a, b := openBus(t, url, Options{KeepAttachments: -1}), openBus(t, url, Options{KeepAttachments: -1})
	m := subscribe(t, b, "socket.io#/")
	big := bytes.Repeat([]byte("x"), 10000)
	if err := a.Publish(t.Context(), "socket.io#/", big); err != nil {
		t.Fatal(err)
	}
	node := newStranger(t, url)
	node.notify(t, "socket.io#/", `{"uid":"gone","type":3,"attachmentId":"12345"}`)
	node.notify(t, "socket.io#/", `{"after":1}`)
	eventually(t, "the messages", func() bool { return len(m.all()) == 2 })
	if got := b.Stats().Missing; got != 1 {
		t.Errorf("got %d missing, want 1", got)
	}
}

// TestClean removes old rows: a node's own, and those of emitters, which remove none.
func TestClean(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	b, emitter := openBus(t, url, Options{KeepAttachments: time.Second}), openBus(t, url, Options{})
	m := subscribe(t, b, "socket.io#/")
	node := newStranger(t, url)
	for i, writer := range []*Bus{b, emitter} {
		b.stored.Store(0) // it has rested for long
		if err := writer.Publish(t.Context(), "socket.io#/", bytes.Repeat([]byte("x"), 10000)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the message", func() bool { return len(m.all()) == i+1 })
		eventually(t, "an empty table", func() bool {
			var n int
			if err := node.QueryRow(t.Context(), "SELECT count(*) FROM socket_io_attachments").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 0
		})
	}
}

// TestHook: connections are made as those of the pool.
func TestHook(t *testing.T) {
	s := server(t)
	config, err := pgxpool.ParseConfig(s.URL("nowhere"))
	if err != nil {
		t.Fatal(err)
	}
	database := s.Database(t)
	var before, after atomic.Int64
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		before.Add(1)
		c.Database = database
		return nil
	}
	config.AfterConnect = func(context.Context, *pgx.Conn) error { after.Add(1); return nil }
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	b := New(pool, nil)
	defer b.Close()
	subscribe(t, b, "topic")
	if before.Load() != 2 || after.Load() != 2 {
		t.Errorf("got %d and %d calls of the hooks, want 2 of each", before.Load(), after.Load())
	}
}
