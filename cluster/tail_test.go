package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A slowLog counts how often it is read, takes its time with it, and can fail.
type slowLog struct {
	*membus.LogBus
	reads, now, most atomic.Int64
	fails            atomic.Bool
}

var errSlow = errors.New("the log cannot be read")

func (l *slowLog) Since(ctx context.Context, topic, offset string) iter.Seq2[cluster.Record, error] {
	return func(yield func(cluster.Record, error) bool) {
		l.reads.Add(1)
		now := l.now.Add(1)
		defer l.now.Add(-1)
		for most := l.most.Load(); now > most && !l.most.CompareAndSwap(most, now); most = l.most.Load() {
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			yield(cluster.Record{}, context.Cause(ctx))
			return
		}
		if l.fails.Load() {
			yield(cluster.Record{}, errSlow)
			return
		}
		for r, err := range l.LogBus.Since(ctx, topic, offset) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// follow joins a node whose log is slow.
func follow(t *testing.T, hub *membus.Hub, name string, tail int64) (*cluster.Node, *slowLog) {
	t.Helper()
	l := &slowLog{LogBus: membus.NewLog(hub, &membus.LogOptions{Options: membus.Options{Name: name}})}
	n, err := cluster.Join(t.Context(), l, &cluster.Options{ID: name, LogTail: tail, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.Close()
		_ = l.Close()
	})
	return n, l
}

// told returns what is behind an offset, with commas.
func told(ctx context.Context, n *cluster.Node, offset string) (string, error) {
	var got []string
	for op, err := range n.Since(ctx, "/", offset) {
		if err != nil {
			return "", err
		}
		got = append(got, string(op.Data))
	}
	return strings.Join(got, ","), nil
}

// tell tells the numbers from first to last, and returns the offset of each.
func tell(t *testing.T, n *cluster.Node, first, last int) (offsets []string) {
	t.Helper()
	for i := first; i <= last; i++ {
		offset, err := n.Keep(t.Context(), emitOp(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, offset)
	}
	return offsets
}

func from(first, last int) string {
	var s []string
	for i := first; i <= last; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return strings.Join(s, ",")
}

// together has many ask at once, each for what is behind another offset, while ten more come.
func together(t *testing.T, n, writer *cluster.Node, offsets []string, many int) {
	t.Helper()
	var wg sync.WaitGroup
	total := len(offsets)
	for i := range many {
		wg.Go(func() {
			k := rand.IntN(total)
			time.Sleep(time.Duration(i) * time.Millisecond)
			got, err := told(t.Context(), n, offsets[k])
			if want := from(k+1, total-1); err != nil || want != "" && !strings.HasPrefix(got+",", want+",") {
				t.Errorf("behind %d: got %q and error %v, want %q and perhaps more", k, got, err, want)
			}
		})
	}
	tell(t, writer, total, total+9)
	wg.Wait()
	synctest.Wait()
	for _, k := range []int{0, total / 2, total - 1} {
		if got, err := told(t.Context(), n, offsets[k]); got != from(k+1, total+9) || err != nil {
			t.Errorf("behind %d: got %q and error %v, want all up to %d", k, got, err, total+9)
		}
	}
}

// However many ask a node that was not there at the time, whose log takes a second for each read: it is
// read a few times.
func TestSinceTogether(t *testing.T) {
	simulate(t, "all in memory", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 99)
		n, l := follow(t, hub, "n", 0)
		offsets = append(offsets, tell(t, writer, 100, 109)...)
		synctest.Wait()
		together(t, n, writer, offsets, 500)
		if got := l.reads.Load(); got > 4 {
			t.Errorf("the log was read %d times for 500 who asked at once, want 4 at most", got)
		}
		before := l.reads.Load()
		for range 100 {
			if _, err := told(t.Context(), n, offsets[0]); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.reads.Load(); got != before {
			t.Errorf("the log was read %d times more for what is in memory", got-before)
		}
		time.Sleep(6 * time.Minute)
		if got, err := told(t.Context(), n, offsets[0]); got != from(1, 119) || err != nil || l.reads.Load() == before {
			t.Errorf("when nobody asked for long: got %q, error %v and %d reads more, want all, from the log", got, err, l.reads.Load()-before)
		}
	})
	simulate(t, "more than there is room for", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 99)
		n, l := follow(t, hub, "n", 20*300)
		offsets = append(offsets, tell(t, writer, 100, 109)...)
		synctest.Wait()
		together(t, n, writer, offsets, 100)
		if got := l.most.Load(); got > 5 {
			t.Errorf("got %d reads at the same time, want 5 at most", got)
		}
		offsets = append(offsets[:110], tell(t, writer, 120, 121)...)
		synctest.Wait()
		before := l.reads.Load()
		for _, k := range []int{110, 0, 50} {
			want := from(k+1, 121)
			if k == 110 {
				want = "121"
			}
			if got, err := told(t.Context(), n, offsets[k]); got != want || err != nil {
				t.Errorf("behind the offset %d: got %q and error %v, want %q", k, got, err, want)
			}
		}
		if got := l.reads.Load() - before; got != 2 {
			t.Errorf("got %d reads for two who need more than there is room for and one who needs little, want 2", got)
		}
	})
	simulate(t, "without memory", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 99)
		n, l := follow(t, hub, "n", -1)
		together(t, n, writer, offsets, 20)
		if got := l.most.Load(); got != 4 {
			t.Errorf("got %d reads at the same time, want 4", got)
		}
	})
}

// What cannot be had fails for those who need it, and for nobody else.
func TestSinceFails(t *testing.T) {
	simulate(t, "trimmed", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 99)
		hub.Trim("atoll.all", 50)
		n, l := follow(t, hub, "n", 0)
		offsets = append(offsets, tell(t, writer, 100, 109)...)
		synctest.Wait()
		var wg sync.WaitGroup
		for k := range offsets {
			wg.Go(func() {
				got, err := told(t.Context(), n, offsets[k])
				switch gone := k < 45; { // 50 are left, announcements among them
				case gone && !errors.Is(err, cluster.ErrTrimmed):
					t.Errorf("behind %d: got %q and error %v, want ErrTrimmed", k, got, err)
				case k > 80 && (err != nil || !strings.HasPrefix(got+",", from(k+1, 109)) && k < 109):
					t.Errorf("behind %d: got %q and error %v, want %q", k, got, err, from(k+1, 109))
				}
			})
		}
		wg.Wait()
		before := l.reads.Load()
		if _, err := told(t.Context(), n, offsets[0]); !errors.Is(err, cluster.ErrTrimmed) || l.reads.Load() > before {
			t.Errorf("got error %v after %d reads, want ErrTrimmed without one", err, l.reads.Load()-before)
		}
	})
	simulate(t, "an offset that is none", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		tell(t, writer, 0, 9)
		n, _ := follow(t, hub, "n", 0)
		tell(t, writer, 10, 19)
		synctest.Wait()
		for _, offset := range []string{"garbage", "-5", "99999999999999999999", "00"} {
			if got, err := told(t.Context(), n, offset); !errors.Is(err, cluster.ErrTrimmed) {
				t.Errorf("behind %q: got %q and error %v, want ErrTrimmed", offset, got, err)
			}
			if got, err := told(t.Context(), n, "0"); got != from(0, 19) || err != nil {
				t.Errorf("behind the beginning, after %q: got %q and error %v, want all", offset, got, err)
			}
		}
	})
	simulate(t, "away", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 9)
		n, l := follow(t, hub, "n", 0)
		offsets = append(offsets, tell(t, writer, 10, 19)...)
		synctest.Wait()
		l.fails.Store(true)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := told(t.Context(), n, offsets[3]); !errors.Is(err, errSlow) {
					t.Errorf("got error %v, want the log's", err)
				}
			})
		}
		wg.Wait()
		l.fails.Store(false)
		if got, err := told(t.Context(), n, offsets[3]); got != from(4, 19) || err != nil {
			t.Errorf("got %q and error %v, want all", got, err)
		}
	})
	simulate(t, "no time", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 9)
		n, _ := follow(t, hub, "n", 0)
		tell(t, writer, 10, 19)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := told(ctx, n, offsets[3]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want a deadline", err)
		}
		if got, err := told(t.Context(), n, offsets[3]); got != from(4, 19) || err != nil {
			t.Errorf("got %q and error %v, want all", got, err)
		}
	})
	simulate(t, "closed", func(t *testing.T, hub *membus.Hub) {
		writer, _ := follow(t, hub, "writer", 0)
		offsets := tell(t, writer, 0, 9)
		n, _ := follow(t, hub, "n", 0)
		tell(t, writer, 10, 19)
		synctest.Wait()
		go func() {
			time.Sleep(100 * time.Millisecond)
			_ = n.Close()
		}()
		if _, err := told(t.Context(), n, offsets[3]); !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("got error %v, want ErrClosed", err)
		}
	})
}
