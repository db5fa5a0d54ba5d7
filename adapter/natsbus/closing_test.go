package natsbus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A connection that its owner closes during Subscribe leaves nobody waiting.
func TestCloseDuringSubscribe(t *testing.T) {
	s := natsServer(t, -1)
	for range 300 {
		conn, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		b := New(conn, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := b.Subscribe(t.Context(), "x", func(string, []byte) {}); err != nil {
					return
				}
			}
		}()
		time.Sleep(100 * time.Microsecond)
		conn.Close()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("Subscribe waits for ever for a connection that is closed")
		}
		b.Close()
	}
}
