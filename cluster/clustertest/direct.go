package clustertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A letterbox keeps what is sent to one node.
type letterbox struct {
	mu    sync.Mutex
	from  []string
	datas [][]byte
}

func (l *letterbox) receive(from string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.datas = append(l.from, from), append(l.datas, data)
}

func (l *letterbox) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.datas)
}

// pattern returns n bytes that are the same for the same n and i.
func pattern(n, i int) []byte {
	b := make([]byte, n)
	for j := range b {
		b[j] = byte(i + j*j>>5)
	}
	return b
}

// sendTo sends data to a member, which may be taken for dead for a moment where the machine is busy: then nothing was sent.
func sendTo(from, to *member, data []byte) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := from.Send(context.Background(), to.ID(), data)
		if !errors.Is(err, cluster.ErrUnknownNode) || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *suite) direct(t *testing.T) {
	a, b, c := s.three(t)
	boxes := map[*member]*letterbox{}
	for _, m := range []*member{a, b, c} {
		boxes[m] = &letterbox{}
		if err := m.Direct(boxes[m].receive); err != nil {
			t.Fatalf("Direct: %v", err)
		}
		if m.Direct(boxes[m].receive) == nil {
			t.Error("second Direct: got no error, want one")
		}
	}
	limit := a.SendLimit()
	sizes := []int{0, 1, 127, 128, 1000, 7_900, 8_000, 8_100, 64 << 10, limit/2 + 1, limit - 1, limit, 5}
	for i, n := range sizes {
		data := pattern(n, i)
		if err := sendTo(a, b, data); err != nil {
			t.Fatalf("Send of %d bytes: %v", n, err)
		}
		clear(data) // it is ours again
	}
	s.eventually(t, "all that was sent", func() bool { return boxes[b].len() >= len(sizes) })
	for i, n := range sizes {
		if got := boxes[b].datas[i]; !bytes.Equal(got, pattern(n, i)) || boxes[b].from[i] != a.ID() {
			t.Errorf("message %d: got %d bytes from %s, want other bytes, %d, from %s", i, len(got), boxes[b].from[i], n, a.ID())
		}
	}

	const each = 100
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range each {
				if err := sendTo(c, b, binary.BigEndian.AppendUint32([]byte{byte(g)}, uint32(i))); err != nil {
					t.Errorf("Send: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s.eventually(t, "what three goroutines sent", func() bool { return boxes[b].len() >= len(sizes)+3*each })
	var next [3]uint32
	for _, data := range boxes[b].datas[len(sizes):] {
		g := data[0]
		if got := binary.BigEndian.Uint32(data[1:]); got != next[g] {
			t.Fatalf("of goroutine %d got message %d, want %d", g, got, next[g])
		}
		next[g]++
	}
	if n, m := boxes[a].len(), boxes[c].len(); n+m > 0 {
		t.Errorf("the two others got %d and %d messages, want none", n, m)
	}

	for _, id := range []string{"nobody", "", a.ID(), "a b.*"} {
		if err := a.Send(t.Context(), id, nil); !errors.Is(err, cluster.ErrUnknownNode) {
			t.Errorf("Send to %q: got error %v, want ErrUnknownNode", id, err)
		}
	}
	if err := sendTo(a, b, make([]byte, limit+1)); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("Send of more than SendLimit: got error %v, want ErrTooLarge", err)
	}

	changed := a.Changed()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-changed
	s.know(t, a, b)
	if err := a.Send(t.Context(), c.ID(), []byte("x")); !errors.Is(err, cluster.ErrUnknownNode) {
		t.Errorf("Send to who left: got error %v, want ErrUnknownNode", err)
	}
	if err := c.Send(t.Context(), a.ID(), []byte("x")); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("Send of who left: got error %v, want ErrClosed", err)
	}
	if err := b.Direct(nil); err != nil {
		t.Errorf("Direct(nil): %v", err)
	}
	if err := sendTo(a, b, []byte("unheard")); err != nil {
		t.Errorf("Send: %v", err)
	}
	s.eventually(t, "a message without a receiver that was counted", func() bool { return b.Stats().Unattached > 0 })
}
