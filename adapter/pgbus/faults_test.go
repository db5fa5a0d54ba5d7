//go:build unix

package pgbus

import (
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/pgtest"
)

// TestFaults kills, freezes and cuts PostgreSQL off while all nodes talk, and ends all its
// connections. Nothing is lost: what PostgreSQL did not take, or notify of, is repaired.
func TestFaults(t *testing.T) {
	each(t, func(t *testing.T, f format) {
		clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig {
			s := pgtest.Start(t)
			database := s.Database(t)
			return &clustertest.Rig{
				Addr: s.Addr(),
				Open: func(t testing.TB, addr string) cluster.Bus {
					return f.open(dial(t, pgtest.URL(addr, database)), 2*time.Second)
				},
				Kill: s.Kill, Restart: s.Restart, Freeze: s.Stop, Thaw: s.Continue,
				Lossless: true,
				Faults: []clustertest.Fault{{
					Name: "all backends terminated",
					Cause: func(t *testing.T) {
						for range 5 {
							s.Terminate(t)
							time.Sleep(200 * time.Millisecond)
						}
					},
				}},
			}
		})
	})
}
