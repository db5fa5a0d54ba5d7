package sticky

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/atollhq/atoll/internal/http1"
)

// maxAnswerHeaders bounds the header lines of an answer.
const maxAnswerHeaders = 256

// An inflow is what a node sends, as far as it is read and not used.
type inflow struct {
	u    *upstream
	buf  []byte
	r, w int
}

func (in *inflow) put() {
	if len(in.buf) == bufferSize {
		buffers.Put(in.buf)
	}
	in.buf, in.r, in.w = nil, 0, 0
}

// answer brings what u answers to the client. It begins with n bytes in buf, which it puts back. An error says
// that the client has not got a complete answer; u.kept says whether u can be used again.
func (t *turn) answer(u *upstream, buf []byte, n int) error {
	in := &t.in
	*in = inflow{u: u, buf: buf, w: n}
	defer in.put()
	if err := t.finalHead(in); err != nil {
		return err
	}
	return t.relay(in)
}

// finalHead reads heads up to that of the final answer, and passes interim ones on.
func (t *turn) finalHead(in *inflow) error {
	for total := 0; total < maxHead; {
		size, err := t.readHead(in)
		if err != nil {
			return err
		}
		total += size
		if err := t.ans.Parse(in.buf[in.r:in.r+size], maxAnswerHeaders); err != nil {
			return errors.Join(errAnswer, err)
		}
		in.r += size
		a := &t.ans
		switch {
		case a.Status >= 200 || a.Status == http.StatusSwitchingProtocols:
			return nil
		case a.Status == http.StatusContinue || t.old || t.socket: // we have said the first ourselves
			continue
		}
		out := outs.Get()
		out.b = appendStatus(out.b, a)
		for i := range a.Fields {
			if f := &a.Fields[i]; !a.ForHop(f) && f.Is != http1.ContentLength {
				out.b = appendField(out.b, f.Name, f.Value)
			}
		}
		out.b = append(out.b, "\r\n"...)
		err = t.c.write(out.b, t.patience())
		outs.Put(out)
		if err != nil {
			t.away.Store(true)
			return errAway
		}
	}
	return errAnswer
}

// readHead returns the length of the head that in begins with, when that is there.
func (t *turn) readHead(in *inflow) (int, error) {
	seen := 0
	for {
		b := in.buf[in.r:in.w]
		switch size := http1.End(b, seen); {
		case size < 0:
			return 0, errAnswer
		case size > 0:
			return size, nil
		}
		seen = len(b)
		if in.w == len(in.buf) {
			if len(b) >= maxHead {
				return 0, errAnswer
			}
			larger := make([]byte, maxHead+1)
			n := copy(larger, b)
			in.put()
			in.buf, in.w = larger, n
		}
		if in.buf == nil {
			buf, n, err := t.wait(in.u)
			if err != nil {
				return 0, err
			}
			in.buf, in.r, in.w = buf, 0, n
			continue
		}
		n, err := t.readInto(in.u, in.buf[in.w:])
		if err != nil {
			return 0, err
		}
		in.w += n
	}
}

// readInto reads more of the answer into b. It returns no error with bytes: TLS tells its end with the last of them.
func (t *turn) readInto(u *upstream, b []byte) (int, error) {
	if t.upload == nil {
		t.c.f.vigil.begin(t)
		defer t.c.f.vigil.end(t)
	}
	n, err := u.read(b)
	if n > 0 {
		u.ended = u.ended || err != nil
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

func appendStatus(b []byte, a *http1.Answer) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = append(b, ' ')
	b = append(b, a.Reason...)
	return append(b, "\r\n"...)
}

// appendAnswer appends the head that goes to the client, up to its framing.
func (t *turn) appendAnswer(b []byte) []byte {
	a := &t.ans
	b = appendStatus(b, a)
	for i := range a.Fields {
		f := &a.Fields[i]
		if f.Is == http1.ContentLength || a.ForHop(f) {
			continue
		}
		b = appendField(b, f.Name, f.Value)
	}
	if t.cookie != "" {
		b = append(b, "Set-Cookie: "...)
		b = append(b, t.cookie...)
		b = append(b, "\r\n"...)
	}
	return b
}

// relay brings the answer, whose head was read, to the client.
func (t *turn) relay(in *inflow) error {
	a, u := &t.ans, in.u
	if a.Status == http.StatusSwitchingProtocols {
		return errAnswer // to a protocol that nobody asked for
	}
	if t.kind == handshake {
		t.l.learn(t.b, a.Values("Set-Cookie"))
	}
	t.watch.begin(&t.call, a.Status, len(a.Get(http1.ContentEncoding)) > 0, string(a.Get(http1.AtollNode)))
	u.kept = false
	bodiless := a.Bodiless(t.head.method)
	ends := !bodiless && !a.Chunked && a.Length < 0 // where the connection does
	chunked := !bodiless && a.Length < 0 && !t.old  // what the client gets
	if ends || a.Chunked && !bodiless {
		t.keep = t.keep && !t.old
	}
	if t.upload != nil {
		select {
		case <-t.upload.done:
			t.keep = t.keep && t.upload.ok
		default:
			t.keep = false // the rest of the request is in the way
		}
	}
	out := outs.Get()
	defer outs.Put(out)
	out.b = t.appendAnswer(out.b)
	switch {
	case chunked:
		out.b = append(out.b, "Transfer-Encoding: chunked\r\n"...)
	case a.Length >= 0 && a.Status >= 200 && a.Status != http.StatusNoContent:
		out.b = append(out.b, "Content-Length: "...)
		out.b = strconv.AppendInt(out.b, a.Length, 10)
		out.b = append(out.b, "\r\n"...)
	}
	out.b = appendConnection(out.b, !t.keep, t.old)
	out.b = append(out.b, "\r\n"...)

	var err error
	switch {
	case bodiless:
		err = t.flush(out)
	case a.Chunked:
		err = t.relayChunks(in, out)
	case ends:
		err = t.relayAll(in, out)
	default:
		err = t.relayLength(in, out)
	}
	if err != nil {
		return err
	}
	t.watch.end()
	stray := a.Status == http.StatusNoContent && (a.Chunked || a.Length > 0) // what should not be there may still come
	u.kept = !ends && !stray && !a.Close && !u.ended && in.r == in.w
	return nil
}

// flush writes out to the client and empties it.
func (t *turn) flush(out *outBuffer) error {
	t.began = true
	if err := t.c.write(out.b, t.patience()); err != nil {
		t.away.Store(true)
		return errAway
	}
	out.b = out.b[:0]
	return nil
}

// next makes in hold new bytes after all were used.
func (t *turn) next(in *inflow) error {
	if in.buf == nil {
		buf, n, err := t.wait(in.u)
		in.buf, in.r, in.w = buf, 0, n
		return err
	}
	if len(in.buf) != bufferSize {
		in.put()
		return t.next(in)
	}
	in.r, in.w = 0, 0
	n, err := t.readInto(in.u, in.buf)
	in.w = n
	return err
}

func (t *turn) relayLength(in *inflow, out *outBuffer) error {
	left := t.ans.Length
	for first := true; ; first = false {
		data := in.buf[in.r : in.r+int(min(left, int64(in.w-in.r)))]
		in.r += len(data)
		left -= int64(len(data))
		t.watch.see(data)
		if first {
			if len(out.b)+len(data) <= cap(out.b) {
				out.b = append(out.b, data...)
				data = nil
			}
			if err := t.flush(out); err != nil {
				return err
			}
		}
		if len(data) > 0 {
			if err := t.c.write(data, t.patience()); err != nil {
				t.away.Store(true)
				return errAway
			}
		}
		if left == 0 {
			return nil
		}
		if err := t.next(in); err != nil {
			return err
		}
	}
}

func (t *turn) relayChunks(in *inflow, out *outBuffer) error {
	var chunks http1.Chunks
	for {
		for in.r < in.w && !chunks.Done() {
			data, rest, err := chunks.Next(in.buf[in.r:in.w])
			if err != nil {
				return errors.Join(errAnswer, err)
			}
			in.r = in.w - len(rest)
			if len(data) == 0 {
				continue
			}
			t.watch.see(data)
			t.appendData(out, data)
		}
		if chunks.Done() && !t.old {
			out.b = append(out.b, http1.LastChunk...)
		}
		if len(out.b) > 0 {
			if err := t.flush(out); err != nil {
				return err
			}
		}
		if chunks.Done() {
			return nil
		}
		if err := t.next(in); err != nil {
			return err
		}
	}
}

// appendData appends a piece of a body whose length is not known.
func (t *turn) appendData(out *outBuffer, data []byte) {
	if t.old {
		out.b = append(out.b, data...)
	} else {
		out.b = http1.AppendChunk(out.b, data)
	}
}

func (t *turn) relayAll(in *inflow, out *outBuffer) error {
	for {
		if data := in.buf[in.r:in.w]; len(data) > 0 {
			in.r = in.w
			t.watch.see(data)
			t.appendData(out, data)
		}
		if err := t.flush(out); err != nil {
			return err
		}
		if err := t.next(in); err == io.ErrUnexpectedEOF && t.pending() {
			break
		} else if err != nil {
			return err
		}
	}
	if t.old {
		return nil
	}
	out.b = append(out.b, http1.LastChunk...)
	return t.flush(out)
}
