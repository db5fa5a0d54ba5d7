package forward

import (
	"net/http"
	"time"
)

// maxHeld is how many bytes of an answer are held until its handler returns, so that it is one frame.
const maxHeld = 48 << 10

// Header implements http.ResponseWriter.
func (s *served) Header() http.Header {
	if s.header == nil {
		s.header = make(http.Header, 4)
	}
	return s.header
}

// WriteHeader implements http.ResponseWriter.
func (s *served) WriteHeader(status int) {
	if s.status != 0 || status < 200 || status > 999 { // of informational ones the client hears nothing
		return
	}
	s.status = status
}

// Write implements http.ResponseWriter.
func (s *served) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if !s.sent && len(s.buf)+len(b) <= maxHeld {
		if s.buf == nil && len(b) <= len(buffer{}) {
			s.lent = buffers.Get().(*buffer)
			s.buf = s.lent[:0]
		}
		s.buf = append(s.buf, b...)
		return len(b), nil
	}
	if !s.sent {
		if err := s.sendHead(0); err != nil {
			return 0, err
		}
	}
	return s.stream.write(b, 0)
}

// FlushError has what was written so far reach the client.
func (s *served) FlushError() error {
	if !s.sent {
		return s.sendHead(flagFlush)
	}
	return s.send(nil, flagFlush)
}

// Flush implements http.Flusher.
func (s *served) Flush() { s.FlushError() }

// sendHead sends the head and what is held of the body.
func (s *served) sendHead(flags byte) error {
	s.sent = true
	s.mu.Lock()
	s.credit -= len(s.buf) // there is enough: nothing was sent before
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	in := s.in
	in.mu.Lock()
	if !in.await() {
		err := in.cause
		in.mu.Unlock()
		return err
	}
	in.pending = appendAnswerFrame(in.pending, s.id, flags, s.statusOr200(), s.header, s.buf)
	in.release(true)
	s.buf = s.buf[:0]
	return nil
}

// SetReadDeadline is for http.ResponseController: from t on, reading the body fails.
func (s *served) SetReadDeadline(t time.Time) error {
	s.set(&s.readBy, t)
	return nil
}

// SetWriteDeadline is for http.ResponseController: from t on, writing more than the client takes fails.
func (s *served) SetWriteDeadline(t time.Time) error {
	s.set(&s.writeBy, t)
	return nil
}

// EnableFullDuplex is for http.ResponseController: reading and writing are always independent here.
func (s *served) EnableFullDuplex() error { return nil }
