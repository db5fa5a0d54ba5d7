package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A session is one client.
type session struct {
	c     *crowd
	owner atomic.Int64 // index of the node

	answers chan struct{}

	sending sync.Mutex // one POST at a time
	mu      sync.Mutex
	sid     string
	up      bool
	sent    int               // the number of the last echo
	pending map[int]time.Time // echoes without an ack
	unsure  map[int]bool      // those whose POST broke: nobody knows whether they arrived
	next    int               // the number of the ack that comes next
	heard   map[string]int    // the last number of each sender of broadcasts
	said    int               // broadcasts
}

const path = "/socket.io/?EIO=4&transport=polling"

// open begins a session on its owner and enters the namespace.
func (s *session) open() error {
	n := s.c.pool.nodes[s.owner.Load()]
	status, body, err := s.c.pool.do(n, http.MethodGet, path+"&t="+token(), "")
	if err != nil {
		return err
	}
	sid, ok := between(body, `"sid":"`, `"`)
	if status != http.StatusOK || !ok {
		return fmt.Errorf("handshake: got %d %s", status, body)
	}
	s.mu.Lock()
	s.sid, s.sent, s.next = sid, 0, 1
	s.pending, s.unsure, s.heard = make(map[int]time.Time), make(map[int]bool), make(map[string]int)
	s.mu.Unlock()
	if err := s.post("40"); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.mu.Lock()
	s.up = true
	s.mu.Unlock()
	return nil
}

var seed = rand.Uint64()

func token() string { return strconv.FormatUint(rand.Uint64()^seed, 36) }

// run polls until the crowd goes home. A session that ends is opened anew on another node.
func (s *session) run() {
	for !s.c.over() {
		err := s.poll()
		if err == nil {
			continue
		}
		if errors.Is(err, errClosed) || s.c.over() {
			return
		}
		s.end(err)
		if !s.reopen() {
			return
		}
	}
}

func (s *session) end(err error) {
	s.mu.Lock()
	s.up = false
	s.pending = nil
	s.mu.Unlock()
	s.c.mu.Lock()
	s.c.ended[fmt.Sprintf("owner %d: %v", s.owner.Load(), err)]++
	s.c.mu.Unlock()
}

func (s *session) reopen() bool {
	start := time.Now()
	for !s.c.over() {
		s.owner.Store((s.owner.Load() + 1) % int64(s.c.owners))
		err := s.open()
		if err == nil {
			s.c.mu.Lock()
			s.c.reopened++
			s.c.slowest = max(s.c.slowest, time.Since(start))
			s.c.mu.Unlock()
			return true
		}
		if errors.Is(err, errClosed) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// poll makes one request and looks at what it brought.
func (s *session) poll() error {
	s.mu.Lock()
	target := path + "&t=" + token() + "&sid=" + s.sid
	s.mu.Unlock()
	status, body, err := s.request(http.MethodGet, target, "")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("poll: %d %s", status, body)
	}
	for p := range strings.SplitSeq(body, "\x1e") {
		switch {
		case p == "2":
			go s.post("3")
		case p == "6", strings.HasPrefix(p, "40"):
		case p == "1":
			return errors.New("closed by the server")
		case strings.HasPrefix(p, "43"):
			s.acked(p[2:])
		case strings.HasPrefix(p, "42"):
			s.event(p[2:])
		default:
			s.c.problem("unexpected packet %.40q", p)
		}
	}
	return nil
}

// request sends a request to a node, and to another where it was not sent, or may be sent again.
func (s *session) request(method, target, body string) (int, string, error) {
	for {
		n := s.c.pool.choose(int(s.owner.Load()))
		if n == nil {
			return 0, "", errUnsent
		}
		status, answer, err := s.c.pool.do(n, method, target, body)
		if errors.Is(err, errUnsent) && !s.c.pool.sticky {
			if !n.dead.Load() {
				time.Sleep(10 * time.Millisecond)
			}
			continue
		}
		if broken := (*brokenError)(nil); errors.As(err, &broken) {
			n.look()
			if method == http.MethodGet && !s.c.pool.sticky {
				s.c.retried.Add(1)
				continue
			}
			return 0, "", fmt.Errorf("%s: its connection broke", method)
		}
		return status, answer, err
	}
}

func (s *session) post(body string) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	target := path + "&t=" + token() + "&sid=" + s.sid
	s.mu.Unlock()
	status, answer, err := s.request(http.MethodPost, target, body)
	if err == nil && (status != http.StatusOK || answer != "ok") {
		err = fmt.Errorf("POST: %d %s", status, answer)
	}
	return err
}

func (s *session) answer() <-chan struct{} { return s.answers }

// echo sends the next number.
func (s *session) echo() {
	s.mu.Lock()
	if !s.up || len(s.pending) > 0 {
		s.mu.Unlock()
		return
	}
	sid, owner := s.sid, s.owner.Load()
	s.sent++
	n := s.sent
	s.pending[n] = time.Now()
	s.mu.Unlock()
	s.c.echoes.Add(1)
	err := s.post(fmt.Sprintf(`42%d["echo",%d]`, n, n))
	if err == nil || errors.Is(err, errClosed) {
		return
	}
	s.mu.Lock()
	same := s.sid == sid && s.up
	delete(s.pending, n)
	if same {
		s.unsure[n] = true
	}
	s.mu.Unlock()
	if same { // the poll finds out about the rest
		s.c.mu.Lock()
		s.c.ended[fmt.Sprintf("(owner %d: %v)", owner, err)]++
		s.c.mu.Unlock()
	}
}

func (s *session) announce() {
	s.mu.Lock()
	s.said++
	body := fmt.Sprintf(`42["bcast","%s",%d]`, s.sid, s.said)
	up := s.up
	s.mu.Unlock()
	if up {
		_ = s.post(body) // the poll finds out
	}
}

func (s *session) acked(p string) {
	id, data, ok := strings.Cut(p, "[")
	n, err := strconv.Atoi(id)
	if !ok || err != nil || data != id+"]" {
		s.c.problem("improper ack %.40q", p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.pending[n]
	if !ok && !s.unsure[n] {
		s.c.problem("an ack came twice, or of nothing")
	}
	delete(s.unsure, n)
	if !ok {
		return
	}
	delete(s.pending, n)
	s.c.heardBack(time.Since(at))
	select {
	case s.answers <- struct{}{}:
	default:
	}
}

func (s *session) event(p string) {
	from, ok := between(p, `["bcast","`, `"`)
	if !ok {
		s.c.problem("unexpected event %.40q", p)
		return
	}
	rest, _ := between(p, from+`",`, "]")
	n, err := strconv.Atoi(rest)
	if err != nil {
		s.c.problem("unexpected event %.40q", p)
		return
	}
	s.c.events.Add(1)
	s.mu.Lock()
	last, known := s.heard[from]
	s.heard[from] = n
	s.mu.Unlock()
	if known && n != last+1 {
		s.c.problem("broadcast %+d instead of +1 behind the last", n-last)
	}
}

func (s *session) pendingEchoes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

func between(s, before, after string) (string, bool) {
	_, s, ok := strings.Cut(s, before)
	if !ok {
		return "", false
	}
	s, _, ok = strings.Cut(s, after)
	return s, ok
}
