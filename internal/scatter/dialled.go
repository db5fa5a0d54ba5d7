package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/atollhq/atoll/client"
)

// A dialled session has a WebSocket, from the beginning or by an upgrade. It goes to a node of its own choice, as
// requests do. It is not opened again.
type dialled struct {
	c       *crowd
	sock    *client.Socket
	sending sync.Mutex
	answers chan struct{}
}

// dial opens a session on the node owner, if it polls at first.
func (c *crowd) dial(owner int, polls bool) (*dialled, error) {
	s := &dialled{c: c, answers: make(chan struct{}, 1)}
	o := &client.Options{Transports: []string{client.WebSocket}, DisableReconnect: true}
	if polls {
		o.Transports = nil
		o.Transport = scattering{c.pool, owner}
	}
	o.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.pool.choose(owner).addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	if s.sock, err = client.Dial(ctx, "http://"+c.pool.nodes[owner].addr, o); err != nil {
		return nil, err
	}
	s.sock.OnDisconnect(func(err *client.DisconnectError) {
		if !c.over() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ended["WebSocket: "+err.Error()]++
		}
	})
	return s, nil
}

func (s *dialled) answer() <-chan struct{} { return s.answers }

func (s *dialled) echo() {
	if !s.sending.TryLock() {
		return
	}
	defer s.sending.Unlock()
	start := time.Now()
	s.c.echoes.Add(1)
	if _, err := s.sock.Ask(context.Background(), "echo", 1); err != nil {
		s.c.problem("echo over WebSocket: %v", err)
		return
	}
	s.c.heardBack(time.Since(start))
	select {
	case s.answers <- struct{}{}:
	default:
	}
}

// scattering sends each request but the first of a session to a node of its own choice.
type scattering struct {
	p     *pool
	owner int
}

var plain = &http.Transport{MaxIdleConnsPerHost: 10_000}

func (t scattering) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("sid") != "" {
		r = r.Clone(r.Context())
		r.URL.Host = t.p.choose(t.owner).addr
	}
	return plain.RoundTrip(r)
}
