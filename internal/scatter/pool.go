package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A pool keeps connections to the nodes, and chooses one for each request.
type pool struct {
	nodes  []*node
	sticky bool
	closed atomic.Bool
}

type node struct {
	addr string
	dead atomic.Bool

	mu   sync.Mutex
	idle []*conn
	busy map[*conn]struct{}
}

type conn struct {
	net.Conn
	br *bufio.Reader
}

func newPool(addrs []string, sticky bool) *pool {
	p := &pool{sticky: sticky}
	for _, a := range addrs {
		p.nodes = append(p.nodes, &node{addr: a, busy: make(map[*conn]struct{})})
	}
	return p
}

var (
	errUnsent = errors.New("no node takes connections")
	errClosed = errors.New("the crowd goes home")
)

// A brokenError is that of a request whose connection ended before the answer.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "the connection broke: " + e.err.Error() }

// choose returns a living node, at random, or the owner where all is sticky.
func (p *pool) choose(owner int) *node {
	if p.sticky {
		return p.nodes[owner]
	}
	first := rand.IntN(len(p.nodes))
	for i := range p.nodes {
		if n := p.nodes[(first+i)%len(p.nodes)]; !n.dead.Load() {
			return n
		}
	}
	return nil
}

// do sends a request to a node and returns the status and the body of the answer.
func (p *pool) do(n *node, method, target, body string) (int, string, error) {
	if p.closed.Load() {
		return 0, "", errClosed
	}
	c, err := n.take()
	if err != nil {
		return 0, "", err
	}
	status, answer, err := c.exchange(method, target, body)
	if err == nil {
		n.give(c)
		return status, answer, nil
	}
	n.drop(c)
	if p.closed.Load() {
		return 0, "", errClosed
	}
	return 0, "", &brokenError{err}
}

func (n *node) take() (*conn, error) {
	n.mu.Lock()
	if k := len(n.idle); k > 0 {
		c := n.idle[k-1]
		n.idle = n.idle[:k-1]
		n.busy[c] = struct{}{}
		n.mu.Unlock()
		return c, nil
	}
	n.mu.Unlock()
	raw, err := n.dial()
	if err != nil {
		return nil, errUnsent
	}
	c := &conn{Conn: raw, br: bufio.NewReaderSize(raw, 1024)}
	n.mu.Lock()
	n.busy[c] = struct{}{}
	n.mu.Unlock()
	return c, nil
}

// dial connects to the node. Only one that refuses is dead: a busy one may be late, and is asked again.
func (n *node) dial() (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", n.addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		n.dead.Store(true)
	}
	return c, err
}

// look sees whether the node is dead, as a connection to it broke.
func (n *node) look() {
	if n.dead.Load() {
		return
	}
	if c, err := n.dial(); err == nil {
		c.Close()
	}
}

func (n *node) give(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, c)
	n.idle = append(n.idle, c)
}

func (n *node) drop(c *conn) {
	c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, c)
}

// close ends all that is under way.
func (p *pool) close() {
	p.closed.Store(true)
	for _, n := range p.nodes {
		n.mu.Lock()
		for c := range n.busy {
			c.Close()
		}
		for _, c := range n.idle {
			c.Close()
		}
		n.mu.Unlock()
	}
}

func (c *conn) exchange(method, target, body string) (int, string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: atoll.test\r\n", method, target)
	if method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.WriteString(body)
	if _, err := io.WriteString(c, b.String()); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}
