package natsbus

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

type counting struct{ done *sync.WaitGroup }

func (c counting) Do(*cluster.Op, func(cluster.Answer)) { c.done.Done() }

// BenchmarkTell tells operations of 256 bytes to one other node, with both servers in this process.
func BenchmarkTell(b *testing.B) {
	dir := b.TempDir()
	var done sync.WaitGroup
	var nodes []*cluster.Node
	for range 2 {
		e, err := Embed(b.Context(), &EmbedOptions{Dir: dir, Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		defer e.Close()
		n, err := cluster.Join(b.Context(), e.Bus(), &cluster.Options{Logger: silent, MaxQueue: 1 << 40})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes = append(nodes, n)
	}
	nodes[1].Attach(counting{&done})
	op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: make([]byte, 256)}
	b.ReportAllocs()
	for b.Loop() {
		done.Add(1)
		if err := nodes[0].Tell(b.Context(), op); err != nil {
			b.Fatal(err)
		}
	}
	done.Wait()
}

// BenchmarkAsk asks the other node how many sockets it has.
func BenchmarkAsk(b *testing.B) {
	dir := b.TempDir()
	var nodes []*cluster.Node
	for range 2 {
		e, err := Embed(b.Context(), &EmbedOptions{Dir: dir, Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		defer e.Close()
		n, err := cluster.Join(b.Context(), e.Bus(), &cluster.Options{Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes = append(nodes, n)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range nodes[0].Ask(b.Context(), &cluster.Op{Kind: cluster.Count, Namespace: "/"}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkEnter enters rooms, 1,000 by each call, in a cluster of three embedded nodes that routes.
func BenchmarkEnter(b *testing.B) {
	dir := b.TempDir()
	var nodes []*cluster.Node
	for range 3 {
		e, err := Embed(b.Context(), &EmbedOptions{Dir: dir, Logger: silent})
		if err != nil {
			b.Fatal(err)
		}
		defer e.Close()
		n, err := cluster.Join(b.Context(), e.Bus(), &cluster.Options{Logger: silent, RouteRooms: true})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes = append(nodes, n)
	}
	k := 0
	for b.Loop() {
		rooms := make([]string, 1000)
		for i := range rooms {
			k++
			rooms[i] = fmt.Sprint("room", k)
		}
		if err := nodes[0].Enter(b.Context(), "/", rooms...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(k), "µs/room")
}

// BenchmarkAppend appends 256 bytes to the log of an external server, on disk, one after another and
// many at a time.
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, startServer(b).url(), nil)
	msg := make([]byte, 256)
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Append(b.Context(), l.kept, msg); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := l.Append(b.Context(), l.kept, msg); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkUpdate stores 1,000 sessions at a time.
func BenchmarkUpdate(b *testing.B) {
	l := openLog(b, startServer(b).url(), nil)
	var ss []*recovery.Session
	for i := range 1000 {
		s := &recovery.Session{PID: fmt.Sprint("pid", i), SID: "sid", Rooms: []string{"sid", "room"}, Data: make([]byte, 100)}
		if err := l.Create(b.Context(), s, time.Minute); err != nil {
			b.Fatal(err)
		}
		ss = append(ss, s)
	}
	for b.Loop() {
		if taken, err := l.Update(b.Context(), ss, time.Minute); len(taken) > 0 || err != nil {
			b.Fatal(len(taken), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/session")
}
