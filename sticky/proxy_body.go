package sticky

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// A sentBody is the body of a request on its way to a node.
type sentBody struct {
	io.ReadCloser
	c      *call
	one    bool        // the whole body is one byte
	closes atomic.Bool // and that is the packet "close"
	fault  atomic.Pointer[error]
}

func (s *sentBody) Read(p []byte) (int, error) {
	stall := s.c.l.o.StallTimeout
	if s.c.kind == plain && stall > 0 {
		s.c.limit((*http.ResponseController).SetReadDeadline, stall)
	}
	n, err := s.ReadCloser.Read(p)
	if s.one && n == 1 && p[0] == '1' {
		s.closes.Store(true)
	}
	if err == io.EOF {
		s.c.limit((*http.ResponseController).SetReadDeadline, 0) // else it would pass while the answer is awaited
	}
	if err != nil && err != io.EOF {
		s.fault.Store(&err)
	}
	return n, err
}

// err returns what went wrong on the client's side.
func (s *sentBody) err() error {
	if p := s.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// An answerBody is the body of an answer on its way to the client.
type answerBody struct {
	io.ReadCloser
	c     *call
	watch watch
	done  func()
	once  sync.Once
	bound bool // there is a deadline for what was read last
}

func (a *answerBody) Read(p []byte) (int, error) {
	if a.bound { // the client has taken that
		a.c.limit((*http.ResponseController).SetWriteDeadline, 0)
	}
	n, err := a.ReadCloser.Read(p)
	if stall := a.c.l.o.StallTimeout; a.c.kind == plain && stall > 0 && (n > 0 || err != nil) {
		a.bound = true
		a.c.limit((*http.ResponseController).SetWriteDeadline, stall)
	}
	a.watch.see(p[:n])
	if err == io.EOF {
		a.watch.end()
	}
	return n, err
}

// Close ends the answer.
func (a *answerBody) Close() error {
	err := a.ReadCloser.Close()
	a.once.Do(a.done)
	return err
}
