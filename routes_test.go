package atoll

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r routes
		r.init(time.Minute)
		if _, ok := r.find("a"); ok {
			t.Error("found what is not there")
		}
		if !r.add("a", "n1") || r.add("a", "n2") || !r.add("b", "n1") {
			t.Error("add: got true for what is there, or false for what is not")
		}
		for range 10 { // what is asked for stays
			time.Sleep(40 * time.Second)
			if node, ok := r.find("a"); node != "n1" || !ok {
				t.Fatalf("got %q %v, want n1", node, ok)
			}
		}
		if _, ok := r.find("b"); ok || r.len() != 1 {
			t.Errorf("got %d sessions, want only the one that is asked for", r.len())
		}
		time.Sleep(3 * time.Minute)
		if _, ok := r.find("a"); ok {
			t.Error("found what nobody had asked for in 3 minutes")
		}
		r.drop("a")
		for i := range 3 * maxRoutes {
			r.add(fmt.Sprint(i), "n")
		}
		if got := r.len(); got > 2*maxRoutes {
			t.Errorf("got %d sessions, want at most %d", got, 2*maxRoutes)
		}
		if _, ok := r.find(fmt.Sprint(3*maxRoutes - 1)); !ok {
			t.Error("the newest is gone")
		}
		r.drop(fmt.Sprint(3*maxRoutes - 1))
		if _, ok := r.find(fmt.Sprint(3*maxRoutes - 1)); ok {
			t.Error("found what was dropped")
		}
	})
}
