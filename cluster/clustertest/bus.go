package clustertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// TestBus tests what the comments of cluster.Bus promise.
func TestBus(t *testing.T, open Open) { (&suite{open: open}).bus(t) }

// SimulateBus is TestBus in simulated time, each test in a bubble of its own.
func SimulateBus(t *testing.T, open Open) { (&suite{open: open, simulated: true}).bus(t) }

func (s *suite) bus(t *testing.T) {
	s.run(t, "from when Subscribe returns", s.busFromSubscribe)
	s.run(t, "order of each publisher", s.busOrder)
	s.run(t, "large messages", s.busLarge)
	s.run(t, "only the topic", s.busTopics)
	s.run(t, "the message stays the publisher's", s.busOwnership)
	s.run(t, "Subscription.Close waits", s.busUnsubscribe)
	s.run(t, "Close waits", s.busClose)
	s.run(t, "ended context", s.busContext)
}

// mail collects what a subscription delivers.
type mail struct {
	mu   sync.Mutex
	busy atomic.Int32
	twin atomic.Bool // deliver was called twice at a time
	msgs [][]byte
}

func (m *mail) deliver(_ string, msg []byte) {
	if m.busy.Add(1) > 1 {
		m.twin.Store(true)
	}
	m.mu.Lock()
	m.msgs = append(m.msgs, msg)
	m.mu.Unlock()
	m.busy.Add(-1)
}

func (m *mail) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.msgs)
}

func (m *mail) all() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([][]byte(nil), m.msgs...)
}

func topic() string { return "clustertest." + rand.Text() }

func subscribe(t *testing.T, b cluster.Bus, topic string) (*mail, cluster.Subscription) {
	t.Helper()
	m := &mail{}
	sub, err := b.Subscribe(t.Context(), topic, m.deliver)
	if err != nil {
		t.Fatalf("Subscribe(%q): %v", topic, err)
	}
	t.Cleanup(func() {
		if m.twin.Load() {
			t.Errorf("deliver was called twice at a time for topic %q", topic)
		}
	})
	return m, sub
}

func publish(t *testing.T, b cluster.Bus, topic string, msg []byte) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, msg); err != nil {
		t.Fatalf("Publish(%q, %d bytes): %v", topic, len(msg), err)
	}
}

func (s *suite) busFromSubscribe(t *testing.T) {
	a, b := s.open(t), s.open(t)
	for i := range 20 {
		topic := topic()
		m, sub := subscribe(t, b, topic)
		publish(t, a, topic, []byte("now"))
		s.eventually(t, fmt.Sprintf("message published right after Subscribe number %d", i), func() bool { return m.len() == 1 })
		if err := sub.Close(); err != nil {
			t.Errorf("Subscription.Close: %v", err)
		}
	}
}

func (s *suite) busOrder(t *testing.T) {
	const each = 500
	buses := []cluster.Bus{s.open(t), s.open(t), s.open(t)}
	topic := topic()
	var mails []*mail
	for _, b := range buses {
		m, _ := subscribe(t, b, topic)
		mails = append(mails, m)
	}
	var wg sync.WaitGroup
	for i := range buses {
		for j := range 2 {
			wg.Go(func() {
				var msg [64]byte
				msg[0] = byte(2*i + j)
				for k := range each {
					binary.BigEndian.PutUint32(msg[1:], uint32(k))
					if err := buses[i].Publish(t.Context(), topic, msg[:]); err != nil {
						t.Errorf("Publish: %v", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for i, m := range mails {
		// A bus may or may not bring its own messages back.
		next := map[byte]uint32{}
		s.eventually(t, fmt.Sprintf("all messages of the other publishers at bus %d", i), func() bool {
			clear(next)
			for _, msg := range m.all() {
				p, k := msg[0], binary.BigEndian.Uint32(msg[1:])
				if k != next[p] {
					t.Fatalf("at bus %d, publisher %d: got message %d, want %d", i, p, k, next[p])
				}
				next[p]++
			}
			for p := range byte(6) {
				if int(p/2) != i && next[p] != each {
					return false
				}
			}
			return true
		})
	}
}

func (s *suite) busLarge(t *testing.T) {
	a, b := s.open(t), s.open(t)
	topic := topic()
	m, _ := subscribe(t, b, topic)
	sizes := []int{0, 1, 1 << 10, 1<<20 + 1, 8 << 20, 100}
	for _, n := range sizes {
		publish(t, a, topic, bytes.Repeat([]byte{byte(n)}, n))
	}
	s.eventually(t, "all messages, the large ones too", func() bool { return m.len() == len(sizes) })
	for i, msg := range m.all() {
		if want := bytes.Repeat([]byte{byte(sizes[i])}, sizes[i]); !bytes.Equal(msg, want) {
			t.Errorf("message %d: got %d other bytes, want %d", i, len(msg), len(want))
		}
	}
}

func (s *suite) busTopics(t *testing.T) {
	a, b := s.open(t), s.open(t)
	base := topic()
	names := []string{
		base, base + ".", base + ".x", base + ".*", base + ".>", base + " x", base + "[ab]", base + "a", base + "?",
		base + "/über", base + "\x00", base + "\r\nPUB x 1", base + "%20", base + "..", base + string(bytes.Repeat([]byte("long"), 75)),
	}
	mails := make([]*mail, len(names))
	for i, name := range names {
		mails[i], _ = subscribe(t, b, name)
	}
	for i, name := range names {
		for range i + 1 {
			publish(t, a, name, []byte(name))
		}
	}
	for i, m := range mails {
		s.eventually(t, fmt.Sprintf("messages on topic %q", names[i]), func() bool { return m.len() >= i+1 })
		for _, msg := range m.all() {
			if string(msg) != names[i] {
				t.Errorf("on topic %q: got a message for %q, want none", names[i], msg)
			}
		}
		if got := m.len(); got != i+1 {
			t.Errorf("on topic %q: got %d messages, want %d", names[i], got, i+1)
		}
	}
}

func (s *suite) busOwnership(t *testing.T) {
	a, b, c := s.open(t), s.open(t), s.open(t)
	topic := topic()
	mb, _ := subscribe(t, b, topic)
	mc, _ := subscribe(t, c, topic)
	msg := make([]byte, 100)
	const count = 50
	for i := range count {
		for j := range msg {
			msg[j] = byte(i)
		}
		publish(t, a, topic, msg)
	}
	for _, m := range []*mail{mb, mc} {
		s.eventually(t, "all messages", func() bool { return m.len() == count })
		for i, got := range m.all() {
			if want := bytes.Repeat([]byte{byte(i)}, 100); !bytes.Equal(got, want) {
				t.Fatalf("message %d: got %d ..., want %d ...", i, got[0], want[0])
			}
		}
	}
}

func (s *suite) busUnsubscribe(t *testing.T) {
	a, b := s.open(t), s.open(t)
	topic := topic()
	var calls atomic.Int32
	entered := make(chan struct{}, 1)
	var ended atomic.Bool
	sub, err := b.Subscribe(t.Context(), topic, func(string, []byte) {
		calls.Add(1)
		select {
		case entered <- struct{}{}:
		default:
		}
		time.Sleep(50 * time.Millisecond)
		if ended.Load() {
			t.Error("deliver was running after Subscription.Close")
		}
	})
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	publish(t, a, topic, []byte("x"))
	<-entered
	publish(t, a, topic, []byte("y"))
	if err := sub.Close(); err != nil {
		t.Errorf("Subscription.Close: %v", err)
	}
	ended.Store(true)
	n := calls.Load()
	publish(t, a, topic, []byte("z"))
	time.Sleep(100 * time.Millisecond)
	if got := calls.Load(); got != n {
		t.Errorf("deliver was called %d times after Subscription.Close, want none", got-n)
	}
	if err := sub.Close(); err != nil {
		t.Errorf("second Subscription.Close: %v", err)
	}
}

func (s *suite) busClose(t *testing.T) {
	a, b := s.open(t), s.open(t)
	topic := topic()
	entered := make(chan struct{}, 1)
	var ended atomic.Bool
	_, err := b.Subscribe(t.Context(), topic, func(string, []byte) {
		select {
		case entered <- struct{}{}:
		default:
		}
		time.Sleep(50 * time.Millisecond)
		if ended.Load() {
			t.Error("deliver was running after Close")
		}
	})
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	publish(t, a, topic, []byte("x"))
	<-entered
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	ended.Store(true)
	if err := b.Publish(t.Context(), topic, []byte("x")); err == nil {
		t.Error("Publish on a closed bus: got no error, want one")
	}
	if _, err := b.Subscribe(t.Context(), topic, func(string, []byte) {}); err == nil {
		t.Error("Subscribe on a closed bus: got no error, want one")
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	publish(t, a, topic, []byte("the others do not mind"))
	time.Sleep(10 * time.Millisecond)
}

func (s *suite) busContext(t *testing.T) {
	b := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Publish(ctx, topic(), []byte("x")); err == nil {
		t.Error("Publish with an ended context: got no error, want one")
	}
	if _, err := b.Subscribe(ctx, topic(), func(string, []byte) {}); err == nil {
		t.Error("Subscribe with an ended context: got no error, want one")
	}
}
