package membus_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hub membus.Hub

func open(t *testing.T) cluster.Bus {
	b := membus.New(&hub, nil)
	t.Cleanup(func() { b.Close() })
	return b
}

func TestBus(t *testing.T)         { clustertest.TestBus(t, open) }
func TestClusterReal(t *testing.T) { clustertest.TestCluster(t, open) }
func TestSimulated(t *testing.T) {
	t.Run("bus", func(t *testing.T) { clustertest.SimulateBus(t, open) })
	t.Run("cluster", func(t *testing.T) { clustertest.SimulateCluster(t, open) })
}
