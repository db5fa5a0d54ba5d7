package sticky

import (
	"net/http"
	"sync"

	"github.com/atollhq/atoll/internal/http1"
)

// An outBuffer is what is put together to be written in one piece.
type outBuffer struct{ b []byte }

// outSize is enough for what one read brings, with a head and the sizes of chunks.
const outSize = bufferSize + 4<<10

type outPool struct{ p sync.Pool }

var outs outPool

// Get returns an empty buffer.
func (p *outPool) Get() *outBuffer {
	if o, ok := p.p.Get().(*outBuffer); ok {
		return o
	}
	return &outBuffer{make([]byte, 0, outSize)}
}

// Put takes it back.
func (p *outPool) Put(o *outBuffer) {
	if cap(o.b) <= 4*outSize {
		o.b = o.b[:0]
		p.p.Put(o)
	}
}

var continues = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// collect puts the body of the request behind its head, as far as there is room: then t.unread is false. Else the
// rest is for upload. It reports false where the body does not come.
func (t *turn) collect() bool {
	c := t.c
	c.within(t.l.o.BodyTimeout)
	t.step()
	if t.chunked {
		return t.collectChunks()
	}
	head := len(t.out.b)
	n := int(min(t.length, int64(c.w-c.r)))
	if room := int64(cap(t.out.b) - head); t.length > room {
		n = min(n, int(room))
		t.out.b = append(t.out.b, c.buf[c.r:c.r+n]...)
		c.r += n
		t.left = t.length - int64(n)
		return t.proceed()
	}
	t.out.b = append(t.out.b, c.buf[c.r:c.r+n]...)
	c.r += n
	if int64(n) < t.length && !t.proceed() {
		return false
	}
	for end := head + int(t.length); len(t.out.b) < end; {
		t.step()
		n, late, err := c.get(t.out.b[len(t.out.b):end])
		if late || err != nil {
			return false
		}
		t.out.b = t.out.b[:len(t.out.b)+n]
	}
	t.unread = false
	if t.kind == session && t.length == 1 && t.head.method == http.MethodPost {
		t.closes = t.out.b[head] == '1' // the packet "close"
	}
	return true
}

// step is called before each read of a body. It gives the client time for one, where not for the whole.
func (t *turn) step() {
	if t.kind == plain {
		t.c.within(t.l.o.StallTimeout)
	}
}

func (t *turn) collectChunks() bool {
	c := t.c
	for first := true; ; first = false {
		if !t.reframe(&t.out.b, cap(t.out.b)) {
			return false
		}
		if t.chunks.Done() {
			t.unread = false
			return true
		}
		if c.r < c.w { // no more room in out
			t.left = -1
			return t.proceed()
		}
		if first && !t.proceed() {
			return false
		}
		t.step()
		if late, err := c.more(bufferSize); late || err != nil {
			return false
		}
	}
}

// reframe takes chunks from the buffer of the client and appends them to out, as long as that does not get longer than
// most and not much longer than before.
func (t *turn) reframe(out *[]byte, most int) bool {
	c := t.c
	for c.r < c.w && !t.chunks.Done() {
		room := most - len(*out) - 32
		if room <= 0 {
			return true
		}
		b := c.buf[c.r:min(c.w, c.r+room)]
		data, rest, err := t.chunks.Next(b)
		if err != nil {
			t.bad = &refusal{err.Status, plainText, err.Text + "\n"}
			return false
		}
		c.r += len(b) - len(rest)
		if len(data) == 0 {
			continue
		}
		t.length += int64(len(data))
		if limit := t.l.o.Front.MaxBody; limit > 0 && t.length > limit {
			t.bad = &longBody
			return false
		}
		*out = http1.AppendChunk(*out, data)
	}
	if t.chunks.Done() {
		*out = append(*out, http1.LastChunk...)
	}
	return true
}

// proceed tells a client that waits for it to send its body.
func (t *turn) proceed() bool {
	if !t.expects {
		return true
	}
	t.expects = false
	return t.c.write(continues, t.patience()) == nil
}

// An upload sends what is left of a long body, while the answer is already awaited.
type upload struct {
	t    *turn
	u    *upstream
	done chan struct{}
	ok   bool // valid when done is closed: all was sent
}

// begin starts sending to u.
func (t *turn) beginUpload(u *upstream) {
	p := &upload{t: t, u: u, done: make(chan struct{})}
	t.upload = p
	go func() { // endUpload waits for it
		defer close(p.done)
		p.ok = p.run()
		if t.bad != nil {
			u.Close() // so that nobody waits for an answer to half a request
		}
	}()
}

func (p *upload) run() bool {
	t, c := p.t, p.t.c
	out := outs.Get()
	defer outs.Put(out)
	for {
		out.b = out.b[:0]
		var data []byte
		if t.chunked {
			if !t.reframe(&out.b, cap(out.b)) {
				return false
			}
			data = out.b
		} else {
			n := int(min(t.left, int64(c.w-c.r)))
			data = c.buf[c.r : c.r+n]
			c.r += n
			t.left -= int64(n)
		}
		if len(data) > 0 {
			if p.u.write(data, t.l.o.StallTimeout) != nil {
				return false // the answer, if there is one, says why
			}
		}
		if t.chunked && t.chunks.Done() || !t.chunked && t.left == 0 {
			return true
		}
		if c.r < c.w {
			continue
		}
		t.step()
		if late, err := c.more(bufferSize); late || err != nil {
			if !c.stop.Load() {
				t.bad = &noBody
			}
			return false
		}
	}
}

// endUpload waits for the upload, and breaks it off where it still runs: nobody needs it any more.
func (t *turn) endUpload() {
	p := t.upload
	if p == nil {
		return
	}
	t.upload = nil
	select {
	case <-p.done:
	default:
		p.u.Close()
		t.c.stop.Store(true)
		t.c.SetReadDeadline(longAgo)
		<-p.done
		t.c.stop.Store(false)
	}
	if p.ok {
		t.unread = false
	} else { // there is more of the request to come, on both sides
		t.keep, p.u.kept = false, false
	}
}
