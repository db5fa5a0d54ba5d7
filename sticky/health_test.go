package sticky

import (
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A node that moved to another port keeps its name, also where the check of its old place is late.
func TestNodeMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, nil)
		before, after := l.view.Load().list[1], l.view.Load().list[0]
		tag := sid.TagOf("n")
		before.learnTag(tag)
		after.learnTag(tag)
		before.down(net.ErrClosed)
		if b, _ := l.find(sid.New(tag)); b != after {
			t.Errorf("got %v, want the one that lives", b.url)
		}
		l.Close()
	})
}

// A node that takes a check for the beginning of something else does not hold the balancer up.
func TestHealth101(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan net.Conn, 100)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"))
			held <- c
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	l, _ := balance(t, &Options{Health: Health{Timeout: 10 * time.Second}}, ln.Addr().String())
	ended := make(chan struct{})
	go func() { l.settled(t.Context()); l.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("Close waits for a check")
	}
	srv.Close()
	<-done
	for len(held) > 0 {
		(<-held).Close()
	}
	<-ended
}
