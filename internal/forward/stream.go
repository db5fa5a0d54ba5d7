package forward

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

var errWindow = errors.New("forward: more of a body came than was allowed")

// A stream is what goes back and forth on one id of a line behind the heads: bodies, or what two ends say
// to each other after a change of protocol. Each end tells the other how much it may send (credit), so a slow reader stops
// its own writer and nobody else.
type stream struct {
	l  *line
	id uint32

	mu     sync.Mutex
	cond   sync.Cond
	in     []byte // came, and is not read yet
	base   []byte // the memory that in lies in
	inEnd  bool   // nothing follows in
	inErr  error  // with inEnd: that was not all
	taken  int    // read, and not allowed anew yet
	open   int    // what the other end may still send
	credit int    // what we may still send
	outEnd bool   // we said that nothing follows
	err    error  // it is broken
	flush  bool   // what came is to be flushed

	readBy, writeBy deadline
}

func (s *stream) init(l *line, id uint32) {
	s.l, s.id = l, id
	s.cond.L = &s.mu
	s.open, s.credit = window, window
}

// receive takes in what came. It reports an error where the other end does not keep to the rules.
func (s *stream) receive(data []byte, flags byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(data) > s.open {
		return errWindow
	}
	if s.inEnd {
		return nil
	}
	s.open -= len(data)
	if s.err == nil && len(data) > 0 {
		if s.l.unread.Add(int64(len(data))) > maxUnread {
			s.l.unread.Add(-int64(len(data)))
			s.breakLocked(errBroken)
			return nil
		}
		if len(s.in) == 0 {
			s.in = s.base[:0]
		}
		s.in = append(s.in, data...)
		if cap(s.in) > cap(s.base) {
			s.base = s.in
		}
	}
	s.inEnd = s.inEnd || flags&(flagEnd|flagBroken) != 0
	if flags&flagBroken != 0 {
		s.inErr = io.ErrUnexpectedEOF
	}
	s.flush = s.flush || flags&flagFlush != 0
	s.cond.Broadcast()
	return nil
}

// allow lets us send n bytes more.
func (s *stream) allow(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit += n; s.credit > window {
		return errWindow
	}
	s.cond.Broadcast()
	return nil
}

// fail breaks the stream: what came before can still be read.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakLocked(err)
}

func (s *stream) breakLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	s.cond.Broadcast()
}

// drop forgets what was not read, and breaks the stream.
func (s *stream) drop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l.unread.Add(-int64(len(s.in)))
	s.in, s.base = nil, nil
	s.breakLocked(err)
}

// read takes what came into b. It waits until there is something.
func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	for len(s.in) == 0 {
		var err error
		switch {
		case s.readBy.over():
			err = os.ErrDeadlineExceeded
		case s.err != nil:
			err = s.err
		case s.inErr != nil:
			err = s.inErr
		case s.inEnd:
			err = io.EOF
		case len(b) == 0:
			s.mu.Unlock()
			return 0, nil
		}
		if err != nil {
			s.mu.Unlock()
			return 0, err
		}
		s.cond.Wait()
	}
	if s.readBy.over() {
		s.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, s.in)
	s.in = s.in[n:]
	if len(s.in) == 0 && cap(s.base) > 4<<10 {
		s.in, s.base = nil, nil
	}
	more := s.took(n)
	s.mu.Unlock()
	s.grant(more)
	return n, nil
}

// took notes that n bytes were read, and returns how many to allow anew. s.mu is held.
func (s *stream) took(n int) int {
	s.l.unread.Add(-int64(n))
	if s.taken += n; s.taken < window/4 || s.inEnd || s.err != nil {
		return 0
	}
	more := s.taken
	s.taken = 0
	s.open += more
	return more
}

// grant tells the other end that it may send n bytes more.
func (s *stream) grant(n int) {
	if n == 0 {
		return
	}
	l := s.l
	l.mu.Lock()
	if !l.dead {
		l.pending = appendCredit(l.pending, s.id, n)
	}
	l.release(true)
}

// reserve waits until some of n bytes may be sent, and returns how many.
func (s *stream) reserve(n int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.outEnd:
			return 0, io.ErrClosedPipe
		case s.writeBy.over():
			return 0, os.ErrDeadlineExceeded
		case s.credit > 0:
			n = min(n, s.credit, chunk)
			s.credit -= n
			return n, nil
		}
		s.cond.Wait()
	}
}

// write sends b, and waits while the other end does not read.
func (s *stream) write(b []byte, flags byte) (written int, err error) {
	for len(b) > 0 {
		n, err := s.reserve(len(b))
		if err != nil {
			return written, err
		}
		f := byte(0)
		if n == len(b) {
			f = flags
		}
		if err := s.send(b[:n], f); err != nil {
			return written, err
		}
		written += n
		b = b[n:]
	}
	return written, nil
}

// send sends a frame of the body, for which there is credit.
func (s *stream) send(b []byte, flags byte) error {
	l := s.l
	l.mu.Lock()
	if !l.await() {
		err := l.cause
		l.mu.Unlock()
		return err
	}
	l.pending = appendBody(l.pending, s.id, flags, b)
	l.release(true)
	return nil
}

// finishStream says that nothing follows, once.
func (s *stream) finishStream(flags byte) {
	s.mu.Lock()
	done := s.outEnd
	s.outEnd = true
	s.cond.Broadcast()
	s.mu.Unlock()
	if done {
		return
	}
	l := s.l
	l.mu.Lock()
	if !l.dead {
		l.pending = appendBody(l.pending, s.id, flags, nil)
	}
	l.release(true)
}

// A deadline is when waiting ends.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set sets d, which is one of s's; who waits is woken. s.mu is not held.
func (s *stream) set(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cond.Broadcast()
		})
	}
	s.cond.Broadcast()
}

// stop ends the timers of the deadlines.
func (s *stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range [...]*deadline{&s.readBy, &s.writeBy} {
		if d.timer != nil {
			d.timer.Stop()
			d.timer = nil
		}
	}
}
