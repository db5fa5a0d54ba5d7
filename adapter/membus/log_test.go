package membus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

func openLog(t *testing.T) cluster.Bus {
	b := membus.NewLog(&hub, nil)
	t.Cleanup(func() { b.Close() })
	return b
}

func TestLogBus(t *testing.T) { clustertest.SimulateBus(t, openLog) }

func TestLogCluster(t *testing.T) { clustertest.SimulateCluster(t, openLog) }

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		a, b := membus.NewLog(&hub, nil), membus.NewLog(&hub, nil)
		defer a.Close()
		defer b.Close()
		put := func(msgs ...string) {
			t.Helper()
			for _, m := range msgs {
				if _, err := a.Append(t.Context(), "x.all", []byte(m)); err != nil {
					t.Fatalf("Append: %v", err)
				}
			}
		}
		since := func(offset string) (got string, err error) {
			for r, err := range b.Since(t.Context(), "x.all", offset) {
				if err != nil {
					return got, err
				}
				got += string(r.Data)
			}
			return got, nil
		}
		put("1", "2")
		end, err := b.End(t.Context(), "x.all")
		if err != nil || end != "2" {
			t.Fatalf("End: got %q and %v, want 2", end, err)
		}
		var mu sync.Mutex
		var got string
		sub, err := b.Follow(t.Context(), "x.all", func(topic, offset string, msg []byte) {
			mu.Lock()
			defer mu.Unlock()
			got += fmt.Sprintf("%s:%s ", offset, msg)
		})
		if err != nil {
			t.Fatal(err)
		}
		put("3", "4")
		synctest.Wait()
		b.SetDown(true)
		put("5", "6", "7")
		hub.Trim("x.all", 1)
		b.SetDown(false)
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		if want := "3:3 4:4 6: 7:7 "; got != want {
			t.Errorf("Follow: got %q, want %q", got, want)
		}
		mu.Unlock()
		if got, err := since("6"); got != "7" || err != nil {
			t.Errorf("Since 6: got %q and %v, want 7", got, err)
		}
		for _, offset := range []string{"4", "", "x", "9", "-1"} {
			if _, err := since(offset); !errors.Is(err, cluster.ErrTrimmed) {
				t.Errorf("Since %q: got error %v, want ErrTrimmed", offset, err)
			}
		}
		hub.SetDown(true)
		if _, err := a.Append(t.Context(), "x.all", nil); !errors.Is(err, membus.ErrDown) {
			t.Errorf("Append while down: got %v, want ErrDown", err)
		}
		hub.SetDown(false)
		a.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Append(ctx, "x.all", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Append while frozen: got %v, want the context's error", err)
		}
		a.Thaw()
		if b.Compare("9", "10") != -1 || b.Compare("10", "10") != 0 || b.Compare("10", "9") != 1 {
			t.Error("Compare: got the wrong order, want that of numbers")
		}
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	})
}
