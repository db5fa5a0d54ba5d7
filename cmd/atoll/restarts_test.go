package main

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever is asked for while a restart goes on is done by one more behind it, and nothing that is asked for is forgotten.
func TestRestartsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var begun []time.Duration
		start := time.Now()
		r := restarts{do: func() {
			mu.Lock()
			begun = append(begun, time.Since(start))
			mu.Unlock()
			time.Sleep(10 * time.Second)
		}}
		at := func(after time.Duration, want ...time.Duration) {
			t.Helper()
			time.Sleep(after - time.Since(start))
			r.ask()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(begun) != len(want) || begun[len(begun)-1] != want[len(want)-1] {
				t.Errorf("after %v: got restarts that begin at %v, want %v", after, begun, want)
			}
		}
		const s = time.Second
		at(0, 0)
		at(1*s, 0)
		at(2*s, 0)
		at(11*s, 0, 10*s) // during the second
		at(35*s, 0, 10*s, 20*s, 35*s)
		r.wait()
		if got := time.Since(start); got != 45*s {
			t.Errorf("got the end after %v, want 45s", got)
		}
	})
}
