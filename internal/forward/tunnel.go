package forward

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// lastWords is how long a client may take to read what was written before its connection ended.
const lastWords = 30 * time.Second

// A tunnel is a client's connection that was passed through to another node. One goroutine reads from it; another
// writes to it while there is something to write.
type tunnel struct {
	p    *Peers
	o    *outbound
	c    *call
	conn net.Conn

	mu      sync.Mutex
	writing bool
	again   bool // something came while the writer was about to end
	closed  bool
}

// passThrough takes the client's connection and gives it to the other node. first is what that node wrote already.
func (p *Peers) passThrough(o *outbound, c *call, w http.ResponseWriter, r *http.Request, first []byte) {
	nc, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		o.cancel(c, true)
		c.drop(err)
		p.log.Error("forward: a connection cannot be taken", "err", err)
		p.gone(w, r)
		return
	}
	nc.SetDeadline(time.Time{})
	t := &tunnel{p: p, o: o, c: c, conn: nc, writing: true}
	var early []byte
	if n := brw.Reader.Buffered(); n > 0 {
		early, _ = brw.Reader.Peek(n)
		early = append([]byte(nil), early...)
	}
	o.mu.Lock()
	c.raw = t.wake
	o.mu.Unlock()
	p.count.streamsOut.Add(1)
	p.count.passing.Add(1)
	p.tunnels.add(t)
	first = append([]byte(nil), first...) // it lies in a buffer
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf = nil
	}
	if !p.group.Go(func() { t.write(first) }) || !p.group.Go(func() { t.read(early) }) {
		t.close()
	}
}

// wake has what came written to the client.
func (t *tunnel) wake() {
	t.last()
	t.mu.Lock()
	if t.writing || t.closed {
		t.again = true
		t.mu.Unlock()
		return
	}
	t.writing = true
	t.mu.Unlock()
	if !t.p.group.Go(func() { t.write(nil) }) {
		t.close()
	}
}

// last gives the client time for the last words, once the other node has said them. A write that waits already is ended too.
func (t *tunnel) last() {
	if t.c.ended() {
		t.conn.SetWriteDeadline(time.Now().Add(lastWords))
	}
}

// write writes what came to the client, until there is nothing.
func (t *tunnel) write(first []byte) {
	t.last() // it may have been said before there was somebody to wake
	if len(first) > 0 {
		if _, err := t.conn.Write(first); err != nil {
			t.close()
			return
		}
		t.c.consumed(0)
	}
	for {
		data, err := t.c.now()
		if err != nil {
			t.close() // both ends are done
			return
		}
		if len(data) > 0 {
			if _, err := t.conn.Write(data); err != nil {
				t.c.consumed(len(data))
				t.close()
				return
			}
			t.c.consumed(len(data))
			continue
		}
		t.mu.Lock()
		if !t.again {
			t.writing = false
			t.mu.Unlock()
			return
		}
		t.again = false
		t.mu.Unlock()
	}
}

// read sends what the client says to the other node.
func (t *tunnel) read(early []byte) {
	if len(early) > 0 {
		if _, err := t.c.stream.write(early, 0); err != nil {
			t.close()
			return
		}
	}
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		n, err := t.conn.Read(buf[:])
		if n > 0 {
			if _, err := t.c.stream.write(buf[:n], 0); err != nil {
				if !t.c.ended() {
					t.close()
				}
				return
			}
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF: // the other node may have something to say yet
			t.c.finishStream(flagEnd)
		default:
			t.close()
		}
		return
	}
}

// close ends both ends.
func (t *tunnel) close() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed = true
	t.mu.Unlock()
	t.conn.Close()
	t.o.cancel(t.c, true)
	t.c.drop(net.ErrClosed)
	t.p.count.passing.Add(-1)
	t.p.tunnels.remove(t)
}

// now returns what came, without waiting; and an error when nothing will come any more.
func (s *stream) now() (data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data = s.in; len(data) > 0 {
		s.in, s.base = nil, nil
		return data, nil
	}
	if s.inEnd {
		return nil, io.EOF
	}
	return nil, s.err
}

// ended reports whether the other end has said its last.
func (s *stream) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inEnd || s.err != nil
}

// tunnels are those that are open.
type tunnels struct {
	mu   sync.Mutex
	open map[*tunnel]struct{}
}

func (ts *tunnels) add(t *tunnel) {
	ts.mu.Lock()
	if ts.open == nil {
		ts.open = make(map[*tunnel]struct{})
	}
	ts.open[t] = struct{}{}
	ts.mu.Unlock()
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, t)
}

func (ts *tunnels) closeAll() {
	ts.mu.Lock()
	all := make([]*tunnel, 0, len(ts.open))
	for t := range ts.open {
		all = append(all, t)
	}
	ts.mu.Unlock()
	for _, t := range all {
		t.close()
	}
}
