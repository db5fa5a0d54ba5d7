package forward

import (
	"testing"
	"time"
)

// TestLeaveWaitsForNobody has a node leave while the medium takes nothing.
func TestLeaveWaitsForNobody(t *testing.T) {
	simulate(t, "", func(t *testing.T, x *world) {
		never := func(o *Options) { o.Advertise = "-" }
		a, b := x.node(t, "a", answers, never), x.node(t, "b", waits(nil), never)
		know(t, a, b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantAnswer(t, a, 400, "gone")
		}()
		time.Sleep(500 * time.Millisecond)
		a.bus.Freeze()
		begun := time.Now()
		a.Leave()
		if took := time.Since(begun); took > 0 {
			t.Errorf("got %v, want no waiting", took)
		}
		a.bus.Thaw()
		a.Close()
		<-done
	})
}
