package atoll_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestNodeLeaves shuts a node down by way of which a poll waits at another node: the client is told to ask again, and loses nothing.
func TestNodeLeaves(t *testing.T) {
	for _, way := range []string{"link", "carrier"} {
		t.Run(way, func(t *testing.T) {
			f := newFleet(t, &fleetOptions{nodes: 3, setup: echoes, carrier: way == "carrier"})
			var by atomic.Int32
			f.send(func(r *http.Request) int {
				if r.URL.Query().Get("sid") == "" {
					return 1
				}
				return int(by.Load())
			})
			q := f.handshake()
			before := f.nodes[1].Stats().Forward.In
			type answer struct {
				status int
				body   string
			}
			answers := make(chan answer, 1)
			go func() {
				status, body := f.ask("GET", q+"&t=a1", "")
				answers <- answer{status, body}
			}()
			eventually(t, "the poll arrives", func() bool { return f.nodes[1].Stats().Forward.In > before })
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := f.nodes[0].Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if got, want := <-answers, (answer{200, "6"}); got != want {
				t.Errorf("the poll that waited: got %v, want %v", got, want)
			}
			by.Store(2)
			for _, c := range []struct{ method, body, want string }{
				{"POST", "40", "ok"},
				{"GET", "", "40"},
				{"POST", `421["sum",[1,2]]`, "ok"},
				{"GET", "", "431[3]"},
			} {
				status, body := f.ask(c.method, q+"&t=b"+c.want[:2], c.body)
				if status != 200 || len(body) < len(c.want) || body[:len(c.want)] != c.want {
					t.Errorf("%s by another way: got %d %q, want %q", c.method, status, body, c.want)
				}
			}
		})
	}
}
