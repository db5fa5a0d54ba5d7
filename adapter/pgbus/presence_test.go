//go:build unix

package pgbus

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/pgtest"
)

// TestPresence: to a Node.js node, an Atoll node is one of its kind: it says that it is there,
// answers who asks, and says when it leaves.
func TestPresence(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	node := newStranger(t, url, "socket.io#/chat", "socket.io#/")
	b := openBus(t, url, Options{})
	n, err := cluster.Join(t.Context(), b, &cluster.Options{ID: "me", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	want := func(kind int, namespace string) {
		t.Helper()
		channel, got := node.next(t)
		if w := fmt.Sprintf(`{"type":%d,"uid":"me","nsp":"%s"}`, kind, namespace); got != w || channel != "socket.io#"+namespace {
			t.Fatalf("got %s on %s, want %s", got, channel, w)
		}
	}
	if err := n.Open(t.Context(), "/chat"); err != nil {
		t.Fatal(err)
	}
	want(1, "/chat")
	if err := n.Open(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	want(1, "/")
	node.notify(t, "socket.io#/chat", `{"type":1,"uid":"0011223344556677","nsp":"/chat"}`)
	node.next(t) // its own
	want(2, "/chat")

	// A question waits for it, and for nobody in the other namespace.
	result := make(chan int, 1)
	ask := func(namespace string) {
		count := 0
		for _, err := range n.Ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: namespace}) {
			if err != nil {
				t.Errorf("Ask: %v", err)
			}
			count++
		}
		result <- count
	}
	go ask("/chat")
	_, question := node.next(t)
	var q struct {
		Type int
		Data struct{ RequestID string }
	}
	if err := json.Unmarshal([]byte(question), &q); err != nil || q.Type != 7 {
		t.Fatalf("got %s, want a question of type 7", question)
	}
	node.notify(t, "socket.io#/chat", `{"type":8,"data":{"requestId":"`+q.Data.RequestID+`","sockets":[]},"uid":"0011223344556677","nsp":"/chat"}`)
	node.next(t)
	if got := <-result; got != 1 {
		t.Errorf("got %d answers, want 1", got)
	}
	ask("/")
	if got := <-result; got != 0 {
		t.Errorf("got %d answers where nobody is, want none", got)
	}

	if err := n.CloseNamespace("/chat"); err != nil {
		t.Fatal(err)
	}
	want(13, "/chat")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	want(13, "/")
}

// TestIdle counts what an idle node asks of PostgreSQL.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a while")
	}
	s := server(t)
	each(t, func(t *testing.T, f format) {
		database := s.Database(t)
		var count atomic.Int64
		b, err := f.dial(pgtest.URL(counting(t, s.Addr(), &count), database))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		n, err := cluster.Join(t.Context(), b, &cluster.Options{Heartbeat: 5 * time.Second, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		if err := n.Open(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		before := count.Load()
		const window = 14 * time.Second
		time.Sleep(window)
		// One announcement in 5 s, which comes back, so that the link needs no test.
		if got := count.Load() - before; got < 1 || got > 4 {
			t.Errorf("got %d queries in %v, want one in 5 s", got, window)
		}
	})
}
