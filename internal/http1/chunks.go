package http1

import "math"

// What extensions of chunks, and trailers, may take, in bytes: those of one body, and those of one chunk or all
// trailers. Servers refuse more of the latter than fits into their buffer, which may be of 4 KiB.
const (
	maxOverhead = 8 << 10
	maxAtOnce   = 2 << 10
)

// Chunks takes a chunked body apart. The zero value stands before its beginning.
type Chunks struct {
	state    chunkState
	left     int64 // of the chunk
	digits   int
	overhead int
	atOnce   int // the part of overhead since the last chunk
}

type chunkState uint8

const (
	sizeBegin chunkState = iota
	sizeDigits
	extension
	sizeLF
	content
	contentCR
	contentLF
	trailerBegin
	trailerName
	trailerValue
	trailerLF
	lastLF
	finished
)

// Done reports whether the body is complete.
func (c *Chunks) Done() bool { return c.state == finished }

// Next returns the next data in b, and what follows it. Both are parts of b. Where data is empty, more input is
// needed, or the body is complete: then rest is what follows the body. Trailers are checked and left out.
func (c *Chunks) Next(b []byte) (data, rest []byte, err *Error) {
	for len(b) > 0 && c.state != finished {
		if c.state == content {
			n := min(int64(len(b)), c.left)
			c.left -= n
			if c.left == 0 {
				c.state = contentCR
			}
			return b[:n], b[n:], nil
		}
		if err := c.step(b[0]); err != nil {
			return nil, nil, err
		}
		b = b[1:]
	}
	return nil, b, nil
}

// step sees one byte that is not content.
func (c *Chunks) step(x byte) *Error {
	switch c.state {
	case sizeBegin, sizeDigits:
		if d := digit(x); d >= 0 {
			c.digits++
			if c.digits > 16 || c.left > math.MaxInt64>>5 {
				return ErrChunk
			}
			c.left, c.state = c.left<<4|int64(d), sizeDigits
			return nil
		}
		switch {
		case c.state == sizeBegin:
			return ErrChunk
		case x == '\r':
			c.state = sizeLF
		case x == ';':
			c.state = extension
		default:
			return ErrChunk
		}
	case extension:
		if x == '\r' {
			c.state = sizeLF
			return nil
		}
		return c.extra(x, text, ErrChunk)
	case sizeLF:
		c.digits = 0
		c.state = content
		if c.left == 0 {
			c.state = trailerBegin
		}
		return c.must(x, '\n', ErrChunk)
	case contentCR:
		c.state = contentLF
		return c.must(x, '\r', ErrChunk)
	case contentLF:
		c.state, c.atOnce = sizeBegin, 0
		return c.must(x, '\n', ErrChunk)
	case trailerBegin:
		if x == '\r' {
			c.state = lastLF
			return nil
		}
		c.state = trailerName
		return c.extra(x, token, ErrTrailer)
	case trailerName:
		if x == ':' {
			c.state = trailerValue
			return c.extra(x, text, ErrTrailer)
		}
		return c.extra(x, token, ErrTrailer)
	case trailerValue:
		if x == '\r' {
			c.state = trailerLF
			c.overhead, c.atOnce = c.overhead+2, c.atOnce+2
			return nil
		}
		return c.extra(x, text, ErrTrailer)
	case trailerLF:
		c.state = trailerBegin
		return c.must(x, '\n', ErrTrailer)
	case lastLF:
		c.state = finished
		return c.must(x, '\n', ErrTrailer)
	}
	return nil
}

// extra sees a byte that is neither size nor content.
func (c *Chunks) extra(x, k byte, err *Error) *Error {
	c.overhead, c.atOnce = c.overhead+1, c.atOnce+1
	if class[x]&k == 0 || c.overhead > maxOverhead || c.atOnce > maxAtOnce {
		return err
	}
	return nil
}

func (c *Chunks) must(x, want byte, err *Error) *Error {
	if x != want {
		return err
	}
	return nil
}

func digit(x byte) int {
	switch {
	case x >= '0' && x <= '9':
		return int(x - '0')
	case x >= 'a' && x <= 'f':
		return int(x-'a') + 10
	case x >= 'A' && x <= 'F':
		return int(x-'A') + 10
	}
	return -1
}

// AppendChunk appends a chunk with data, which is not empty.
func AppendChunk(b, data []byte) []byte {
	b = AppendSize(b, len(data))
	b = append(b, data...)
	return append(b, crlf...)
}

// AppendSize appends the line that begins a chunk of n bytes.
func AppendSize(b []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return append(b, crlf...)
}

// LastChunk ends a chunked body.
const LastChunk = "0\r\n\r\n"
