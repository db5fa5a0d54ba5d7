package supervise

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// longLine is from how many bytes on a line is printed in pieces.
const longLine = 64 << 10

// An output is where the lines of all processes go.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

// prefixOf is what stands before the lines of a node.
func prefixOf(node int, color bool) string {
	if !color {
		return fmt.Sprintf("[%d] ", node)
	}
	colors := [...]int{36, 33, 32, 35, 34, 31} // all can be read on dark and on light
	return fmt.Sprintf("\x1b[%dm[%d]\x1b[0m ", colors[(node-1)%len(colors)], node)
}

// lines returns a writer for one stream of one process.
func (o *output) lines(prefix string) *lines { return &lines{o: o, prefix: prefix} }

// A lines writes what it gets line by line, each behind a prefix, so that lines of several do not mix.
type lines struct {
	o      *output
	prefix string
	mu     sync.Mutex
	rest   []byte // of a line whose end has not come
}

// Write never fails: a process does not suffer from who reads.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			l.rest = append(l.rest, b...)
			if len(l.rest) >= longLine {
				l.print()
			}
			break
		}
		l.rest = append(l.rest, b[:i]...)
		l.print()
		b = b[i+1:]
	}
	return n, nil
}

// print writes the line that there is. l.mu is held.
func (l *lines) print() {
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	line := append(append([]byte(l.prefix), l.rest...), '\n')
	_, _ = l.o.w.Write(line)
	l.rest = l.rest[:0]
}

// flush writes a line without an end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.print()
	}
}
