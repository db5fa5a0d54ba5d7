//go:build unix

package natsbus

import (
	"syscall"
	"testing"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

// rig makes a NATS server fail.
func rig(t testing.TB, open func(t testing.TB, url string) cluster.Bus) *clustertest.Rig {
	s := startServer(t)
	return &clustertest.Rig{
		Addr:    s.addr,
		Open:    func(t testing.TB, addr string) cluster.Bus { return open(t, "nats://"+addr) },
		Kill:    s.Kill,
		Restart: s.Restart,
		Freeze:  func() error { return s.cmd.Process.Signal(syscall.SIGSTOP) },
		Thaw:    func() error { return s.cmd.Process.Signal(syscall.SIGCONT) },
	}
}

func TestFaults(t *testing.T) {
	clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig {
		return rig(t, func(t testing.TB, url string) cluster.Bus {
			b, err := Connect(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	})
}

// TestLogFaults: what JetStream keeps is not lost.
func TestLogFaults(t *testing.T) {
	clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig {
		r := rig(t, func(t testing.TB, url string) cluster.Bus { return openLog(t, url, nil) })
		r.Lossless = true
		return r
	})
}
