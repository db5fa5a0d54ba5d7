package natsbus

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

// openDial is dial in this process.
func openDial(t *testing.T, address string) logNode {
	t.Helper()
	b, err := dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.(logNode)
}

func storeAt(t *testing.T) string {
	dir := t.TempDir()
	return filepath.Join(dir, "nodes") + "|" + filepath.Join(dir, "store")
}

// appendAll appends n messages, each until it is known to be there.
func appendAll(t *testing.T, l *Log, from, n int) {
	t.Helper()
	for i := range n {
		eventually(t, "an Append", func() bool {
			_, err := l.Append(t.Context(), l.kept, fmt.Append(nil, from+i))
			return err == nil
		})
	}
}

// wantAll waits until r has the messages 0 to n-1. What nodes say besides is left out.
func wantAll(t *testing.T, r *records, n int) {
	t.Helper()
	got := func() []string {
		ms := slices.DeleteFunc(r.data(), func(m string) bool { return m != "gone" && (m == "" || m[0] < '0' || m[0] > '9') })
		return slices.Compact(ms) // one whose answer was lost may be there twice
	}
	eventually(t, fmt.Sprint("all messages, ", n), func() bool { return len(got()) >= n })
	for i, m := range got() {
		if m != fmt.Sprint(i) {
			t.Fatalf("message %d: got %q", i, m)
		}
	}
}

func TestStoreMoves(t *testing.T) {
	at := storeAt(t)
	a, b, c := openDial(t, at), openDial(t, at), openDial(t, at)
	rb, rc := follow(t, b.Log), follow(t, c.Log)
	appendAll(t, b.Log, 0, 100)
	start, err := c.End(t.Context(), c.kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil { // whose server it is
		t.Error(err)
	}
	appendAll(t, b.Log, 100, 100)
	wantAll(t, rb, 200)
	wantAll(t, rc, 200)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	appendAll(t, c.Log, 200, 100)
	wantAll(t, rc, 300)
	n := 0
	for _, err := range c.Since(t.Context(), c.kept, start) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 200 {
		t.Errorf("Since: got %d messages, want 200", n)
	}
}

// The process that keeps the store is killed, again and again.
func TestStoreIsKilled(t *testing.T) {
	at := storeAt(t)
	keeper := clustertest.Start(t, "0", at)
	l := openDial(t, at)
	r := follow(t, l.Log)
	total := 0
	for round := range 3 {
		appendAll(t, l.Log, total, 200)
		total += 200
		next := clustertest.Start(t, fmt.Sprint(round+1), at)
		keeper.Kill()
		start := time.Now()
		appendAll(t, l.Log, total, 1)
		t.Logf("the log was back after %v", time.Since(start).Round(time.Millisecond))
		total++
		keeper = next
	}
	appendAll(t, l.Log, total, 100)
	wantAll(t, r, total+100)
}

func TestStoreIsABus(t *testing.T) {
	at := storeAt(t)
	open := func(t *testing.T) cluster.Bus { return openDial(t, at) }
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, open) })
	if !testing.Short() {
		t.Run("cluster", func(t *testing.T) { clustertest.TestCluster(t, open) })
	}
}

// Three machines, each with a store of its own: one may die.
func TestStoreOfThreeMachines(t *testing.T) {
	if testing.Short() {
		t.Skip("the servers take some twenty seconds to elect whom they follow")
	}
	addresses := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	dir := t.TempDir()
	machine := func(i int) *Embedded {
		return mustEmbed(t, EmbedOptions{
			Listen: addresses[i], Routes: addresses, Secret: "sixteen characters", NoDiscovery: true,
			Store: filepath.Join(dir, fmt.Sprint("machine", i)),
		})
	}
	es := []*Embedded{machine(0), machine(1), machine(2)}
	meshed(t, es...)
	logOf := func(e *Embedded) *Log {
		var l *Log
		eventually(t, "a log", func() bool {
			var err error
			l, err = OpenLog(t.Context(), e.Bus(), &LogOptions{Logger: silent})
			if err != nil {
				t.Logf("OpenLog: %v", err)
			}
			return err == nil
		})
		t.Cleanup(func() { l.Close() })
		return l
	}
	ls := []*Log{logOf(es[0]), logOf(es[1]), logOf(es[2])}
	s, err := ls[0].js.Stream(t.Context(), ls[0].streamName())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config.Replicas; got != 3 {
		t.Errorf("got %d replicas, want 3", got)
	}
	r := follow(t, ls[1])
	appendAll(t, ls[1], 0, 100)
	big := make([]byte, 10<<20)
	eventually(t, "an Append of 10 MB", func() bool {
		_, err := ls[2].Append(t.Context(), ls[2].kept, big)
		return err == nil
	})
	eventually(t, "10 MB at a follower", func() bool { return len(r.data()) >= 101 })
	r.mu.Lock()
	r.all = slices.DeleteFunc(r.all, func(x entry) bool { return len(x.data) == len(big) })
	r.mu.Unlock()
	ls[0].Close()
	es[0].Close()
	start := time.Now()
	appendAll(t, ls[1], 100, 1)
	t.Logf("the log was back after %v", time.Since(start).Round(time.Millisecond))
	appendAll(t, ls[1], 101, 99)
	wantAll(t, r, 200)
	es[0] = machine(0) // with its files
	meshed(t, es...)
	ls[2].Close()
	es[2].Close()
	appendAll(t, ls[1], 200, 100)
	wantAll(t, r, 300)
}
