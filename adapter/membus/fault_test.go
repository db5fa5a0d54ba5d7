package membus_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
)

// two returns a publisher and a subscriber to topic "t", and what arrived so far.
func two(t *testing.T, o *membus.Options) (hub *membus.Hub, a, b *membus.Bus, arrived func() string) {
	hub = new(membus.Hub)
	a, b = membus.New(hub, &membus.Options{Name: "a"}), membus.New(hub, o)
	var mu sync.Mutex
	var got []byte
	if _, err := b.Subscribe(t.Context(), "t", func(_ string, m []byte) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m...)
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return hub, a, b, func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return string(got)
	}
}

func send(t *testing.T, b *membus.Bus, msgs ...string) {
	t.Helper()
	for _, m := range msgs {
		if err := b.Publish(t.Context(), "t", []byte(m)); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFaults(t *testing.T) {
	b := &membus.Options{Name: "b"}
	for name, f := range map[string]func(*testing.T){
		"delay keeps the order": func(t *testing.T) {
			hub, a, _, arrived := two(t, b)
			hub.SetFault(func(from, to, topic string) membus.Fault {
				if from != "a" || to != "b" || topic != "t" {
					t.Errorf("got a fault asked for %s to %s on %s, want a to b on t", from, to, topic)
				}
				return membus.Fault{Delay: time.Second}
			})
			send(t, a, "1")
			hub.SetFault(nil)
			send(t, a, "2")
			want(t, arrived(), "")
			time.Sleep(time.Second)
			want(t, arrived(), "12")
		},
		"what is put aside is overtaken": func(t *testing.T) {
			hub, a, _, arrived := two(t, b)
			hub.SetFault(func(from, to, topic string) membus.Fault { return membus.Fault{Delay: 2 * time.Second, Aside: true} })
			send(t, a, "3")
			hub.SetFault(func(from, to, topic string) membus.Fault { return membus.Fault{Delay: time.Second, Aside: true} })
			send(t, a, "2")
			hub.SetFault(nil)
			send(t, a, "1")
			want(t, arrived(), "1")
			time.Sleep(time.Second)
			want(t, arrived(), "12")
			time.Sleep(time.Second)
			want(t, arrived(), "123")
		},
		"drop and repeat": func(t *testing.T) {
			hub, a, _, arrived := two(t, b)
			faults := []membus.Fault{{Drop: true}, {Repeat: 2}, {}}
			hub.SetFault(func(string, string, string) membus.Fault {
				f := faults[0]
				faults = faults[1:]
				return f
			})
			send(t, a, "1", "2", "3")
			want(t, arrived(), "2223")
		},
		"partition": func(t *testing.T) {
			hub, a, _, arrived := two(t, b)
			hub.Partition([]string{"a"}, []string{"b"})
			send(t, a, "1")
			hub.Partition([]string{"a", "b"}, []string{"c"})
			send(t, a, "2")
			hub.Partition([]string{"a"})
			send(t, a, "3")
			hub.Partition()
			send(t, a, "4")
			want(t, arrived(), "234")
		},
		"down": func(t *testing.T) {
			hub, a, b, arrived := two(t, b)
			hub.SetDown(true)
			if err := a.Publish(t.Context(), "t", nil); !errors.Is(err, membus.ErrDown) {
				t.Errorf("got error %v, want ErrDown", err)
			}
			if _, err := a.Subscribe(t.Context(), "t", nil); !errors.Is(err, membus.ErrDown) {
				t.Errorf("got error %v, want ErrDown", err)
			}
			hub.SetDown(false)
			b.SetDown(true)
			send(t, a, "1")
			b.SetDown(false)
			send(t, a, "2")
			want(t, arrived(), "2")
		},
		"freeze": func(t *testing.T) {
			_, a, b, arrived := two(t, b)
			b.Freeze()
			b.Freeze()
			send(t, a, "1")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := b.Publish(ctx, "t", []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Publish while frozen: got error %v, want it to wait for the end of its context", err)
			}
			want(t, arrived(), "")
			time.AfterFunc(time.Second, b.Thaw)
			send(t, b, "2")
			want(t, arrived(), "12")
			b.Freeze()
			b.Close() // does not wait for a thaw
		},
		"full": func(t *testing.T) {
			_, a, b, arrived := two(t, &membus.Options{Name: "b", MaxQueue: 3})
			b.Freeze()
			send(t, a, "1", "2", "3", "4", "5")
			b.Thaw()
			got := arrived()
			if !slices.Contains([]string{"123", "1234"}, got) {
				t.Errorf("got %q, want 3 bytes, or 4 with the one on its way", got)
			}
			if d := b.Dropped(); d != uint64(5-len(got)) {
				t.Errorf("got %d dropped, want %d", d, 5-len(got))
			}
			send(t, a, "6")
			want(t, arrived(), got+"6")
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
}
