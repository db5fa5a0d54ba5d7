package natsbus

import (
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// TestAttended has buses on two embedded servers ask whether anybody subscribes.
func TestAttended(t *testing.T) {
	dir := t.TempDir()
	var nodes []*Embedded
	for range 2 {
		e, err := Embed(t.Context(), &EmbedOptions{Dir: dir, Logger: silent})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		nodes = append(nodes, e)
	}
	a, b := nodes[0].Bus(), nodes[1].Bus()
	got := make(chan string, 10)
	sub, err := b.Subscribe(t.Context(), "there", func(_ string, msg []byte) { got <- string(msg) })
	if err != nil {
		t.Fatal(err)
	}
	want := func(topic string, want bool) {
		t.Helper()
		var there bool
		var err error
		for range 1000 { // the other server hears of an end a moment later; and this one may be slow
			if there, err = a.Attended(t.Context(), topic); err == nil && there == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s: got %v and error %v, want %v", topic, there, err, want)
	}
	want("there", true)
	want("nowhere", false)
	if err := a.Publish(t.Context(), "there", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := <-got; got != "x" {
		t.Errorf("got %q, want x: the question is no message", got)
	}
	sub.Close()
	want("there", false)
	var _ cluster.Attender = a
}
