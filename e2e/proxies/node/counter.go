package main

import (
	"encoding/json"
	"net/http"
	"sync"
)

// A counter counts the requests of a name, and the cookies with them.
type counter struct {
	mu  sync.Mutex
	all map[string]counts
}

type counts struct{ Requests, Cookies int }

func (c *counter) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.URL.Query().Get("name"); name != "" {
			_, err := r.Cookie("io")
			c.mu.Lock()
			n := c.all[name]
			n.Requests++
			if err == nil {
				n.Cookies++
			}
			if c.all == nil {
				c.all = make(map[string]counts)
			}
			c.all[name] = n
			c.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// tell answers GET /seen?name=NAME.
func (c *counter) tell(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	n := c.all[r.URL.Query().Get("name")]
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(n)
}
