//go:build unix

package pgbus

import (
	"testing"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

// on makes buses on a database of its own.
func (f format) on(t *testing.T) clustertest.Open {
	s := server(t)
	url := s.URL(s.Database(t))
	return func(t *testing.T) cluster.Bus {
		bus, err := f.dial(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bus.Close() })
		return bus
	}
}

func TestBus(t *testing.T) {
	each(t, func(t *testing.T, f format) { clustertest.TestBus(t, f.on(t)) })
}

func TestCluster(t *testing.T) {
	each(t, func(t *testing.T, f format) { clustertest.TestCluster(t, f.on(t)) })
}

// TestFrozen stops the process of a node: it is missed by name.
func TestFrozen(t *testing.T) {
	each(t, func(t *testing.T, f format) {
		s := server(t)
		clustertest.TestFrozen(t, f.name+" "+s.URL(s.Database(t)), dialAny)
	})
}

// TestRouted has nodes enter and leave rooms, and be reached at once. The official format routes nothing.
func TestRouted(t *testing.T) { clustertest.TestRouted(t, logFormat.on(t)) }

// TestDeaths kills and freezes a node while all talk.
func TestDeaths(t *testing.T) {
	each(t, func(t *testing.T, f format) {
		s := server(t)
		clustertest.TestDeaths(t, f.name+" "+s.URL(s.Database(t)), dialAny)
	})
}
