//go:build unix

package redisstream_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

func TestMain(m *testing.M) {
	if redis := os.Getenv(envServer); redis != "" {
		if err := serve(redis); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	clustertest.Main(m, dialBus)
}

var quiet = slog.New(slog.DiscardHandler)

// An ownBus has a client of its own, which it closes.
type ownBus struct {
	*redisstream.Bus
	client rueidis.Client
}

func (b ownBus) Close() error {
	err := b.Bus.Close()
	b.client.Close()
	return err
}

func option(addrs ...string) rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: addrs, DisableCache: true, ForceSingleClient: len(addrs) == 1}
}

func dialBus(addr string) (cluster.Bus, error) {
	c, err := rueidis.NewClient(option(addr))
	if err != nil {
		return nil, errors.Join(errors.New("no Redis at "+addr), err)
	}
	return ownBus{redisstream.New(c, &redisstream.Options{Logger: quiet}), c}, nil
}

// open makes a bus.
func open(t testing.TB, s *redistest.Server, o *redisstream.Options) *redisstream.Bus {
	t.Helper()
	c, err := rueidis.NewClient(option(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if o == nil {
		o = &redisstream.Options{Logger: quiet}
	}
	b := redisstream.New(c, o)
	t.Cleanup(func() { b.Close() })
	return b
}

// eventually waits until ok, for half a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s, got no: %s", what)
		}
	}
}

// A letter is what deliver was called with.
type letter struct{ offset, text string }

// mail collects what a subscription delivers. A gap has the text "gap".
type mail struct {
	mu      sync.Mutex
	letters []letter
}

func (m *mail) deliver(_, offset string, msg []byte) {
	text := "gap"
	if msg != nil {
		text = textOf(msg)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.letters = append(m.letters, letter{offset, text})
}

func (m *mail) all() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters)
}

func (m *mail) texts() (texts []string) {
	for _, l := range m.all() {
		texts = append(texts, l.text)
	}
	return texts
}

// dialect writes entries for tests.
var dialect = redisstream.NewDialect(nil)

const sender = "sender"

// entry returns an entry of the namespace /n with the given text, and its topic.
func entry(t testing.TB, text string) (topic string, msg []byte) { return entryIn(t, "/n", text) }

func entryIn(t testing.TB, nsp, text string) (topic string, msg []byte) {
	t.Helper()
	topic, msg, err := dialect.Encode(&cluster.Message{
		Kind: cluster.Tell, From: sender, Namespace: nsp,
		Op: &cluster.Op{Kind: cluster.Emit, Namespace: nsp, Data: []byte(`["` + text + `"]`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return topic, msg
}

// textOf is the inverse of entry.
func textOf(msg []byte) string {
	m, err := dialect.Decode("", "streams", msg)
	if err != nil {
		return err.Error()
	}
	return string(m.Op.Data[2 : len(m.Op.Data)-2])
}

// add appends entries and returns their offsets.
func add(t testing.TB, b *redisstream.Bus, texts ...string) (offsets []string) {
	t.Helper()
	for _, text := range texts {
		topic, msg := entry(t, text)
		at, err := b.Append(t.Context(), topic, msg)
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, at)
	}
	return offsets
}

const topicN = "stream /n"

func follow(t testing.TB, b *redisstream.Bus, topic string) *mail {
	t.Helper()
	m := &mail{}
	if _, err := b.Follow(t.Context(), topic, m.deliver); err != nil {
		t.Fatal(err)
	}
	return m
}

// since collects what Since yields.
func since(t testing.TB, b *redisstream.Bus, offset string) (texts []string, err error) {
	t.Helper()
	for r, err := range b.Since(t.Context(), topicN, offset) {
		if err != nil {
			return texts, err
		}
		texts = append(texts, textOf(r.Data))
	}
	return texts, nil
}
