// Package clustertest holds the tests that every cluster.Bus must pass, alone
// (TestBus) and below a cluster of three nodes and more (TestCluster, TestFrozen).
//
// An adapter's test is short:
//
//	func TestMain(m *testing.M) { clustertest.Main(m, dial) }
//
//	func open(t *testing.T) cluster.Bus {
//		bus, err := dial(clustertest.Address(t, "ATOLL_TEST_MYBUS"))
//		if err != nil {
//			t.Fatal(err)
//		}
//		t.Cleanup(func() { bus.Close() })
//		return bus
//	}
//
//	func TestBus(t *testing.T)     { clustertest.TestBus(t, open) }
//	func TestCluster(t *testing.T) { clustertest.TestCluster(t, open) }
//	func TestRouted(t *testing.T)  { clustertest.TestRouted(t, open) } // where the dialect is a cluster.Router
//	func TestFaults(t *testing.T)  { clustertest.TestFaults(t, startRig) }
//	func TestDeaths(t *testing.T)  { clustertest.TestDeaths(t, clustertest.Address(t, "ATOLL_TEST_MYBUS"), dial) }
//	func TestFrozen(t *testing.T)  { clustertest.TestFrozen(t, clustertest.Address(t, "ATOLL_TEST_MYBUS"), dial) }
//
// A medium that lives in the process runs SimulateBus and SimulateCluster: the same tests
// in simulated time.
package clustertest

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// Open returns a bus for one more node on the medium under test, which t closes at its end
// (t.Cleanup). All buses of one test must reach each other.
type Open = func(t *testing.T) cluster.Bus

// A Freezer is a Bus that can stop as if its node's process was stopped.
type Freezer interface {
	Freeze()
	Thaw()
}

// Address returns the address in the environment variable env, and skips the test where it is not set.
func Address(t *testing.T, env string) string {
	t.Helper()
	a := os.Getenv(env)
	if a == "" {
		t.Skipf("%s is not set: it holds the address of the server to test against", env)
	}
	return a
}

// A suite runs tests on one medium.
type suite struct {
	open      Open
	simulated bool
	routed    bool // with Options.RouteRooms
}

// run runs one test, in a bubble of simulated time where the medium can be in one.
func (s *suite) run(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if s.simulated {
			synctest.Test(t, f)
		} else {
			f(t)
		}
	})
}

// patience is how long something that must happen may take. It is for slow and busy
// machines: what tests how fast something is measures it.
const patience = time.Minute

// eventually waits until ok, for a minute at most.
func (s *suite) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if s.simulated {
			synctest.Wait()
		}
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v, got no: %s", patience, what)
		}
	}
}
