//go:build unix

package pgbus

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPublish measures messages that one node publishes and another one gets, from few goroutines, each of
// which waits for its message, and from many, which share transactions.
func BenchmarkPublish(b *testing.B) {
	for _, f := range formats {
		for _, size := range []int{200, 20_000} {
			for _, many := range []int{1, 64} { // goroutines for each processor
				b.Run(fmt.Sprintf("%s/%d bytes/%d a processor", f.name, size, many), func(b *testing.B) {
					s := server(b)
					url := s.URL(s.Database(b))
					from, to := f.open(dial(b, url), 5*time.Second), f.open(dial(b, url), 5*time.Second)
					b.Cleanup(func() { from.Close(); to.Close() })
					var got atomic.Int64
					if _, err := to.Subscribe(b.Context(), "socket.io#/", func(string, []byte) { got.Add(1) }); err != nil {
						b.Fatal(err)
					}
					msg := bytes.Repeat([]byte(" "), size)
					copy(msg, `{}`)
					b.SetParallelism(many)
					var sent, failed atomic.Int64
					b.ResetTimer()
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							m := fmt.Appendf(nil, `{"n":%d}`, sent.Add(1))
							m = append(m, msg[len(m):]...)
							if from.Publish(b.Context(), "socket.io#/", m) != nil {
								failed.Add(1)
							}
						}
					})
					eventually(b, "all messages", func() bool { return got.Load()+failed.Load() >= sent.Load() })
					if n := failed.Load(); n > 0 {
						b.Errorf("got %d errors of Publish, want none", n)
					}
				})
			}
		}
	}
}
