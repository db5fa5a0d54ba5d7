package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// greet writes the start-up text.
func (d *demo) greet() {
	paint := func(code, s string) string {
		if !d.o.Color {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	b.WriteByte('\n')
	if d.taken {
		line("%s", paint("33", fmt.Sprintf("Port %d is taken, so the demo is on the next free one. --port chooses another.", d.o.Port)))
		b.WriteByte('\n')
	}
	line("%s   %s", paint("1;36", "atoll"), paint("1;4", d.url))
	b.WriteByte('\n')
	for i, n := range d.sup.Nodes() {
		tree := "├"
		if i == d.o.Nodes-1 {
			tree = "└"
		}
		line("%s %s  pid %-7d %s", paint("36", tree+"─"), paint("1", fmt.Sprintf("%-8s", n.Name)), n.PID, paint("2", n.URL))
	}
	b.WriteByte('\n')
	line("Open the page in a few tabs, write, and end a node with its button or with kill -9.")
	line("%s", paint("2", "Ctrl-C ends everything."))
	b.WriteByte('\n')
	_, _ = io.WriteString(d.o.Out, b.String())
}

// A prefixer puts a node's name before each line that the node writes.
type prefixer struct {
	to     io.Writer
	prefix string
	rest   []byte // of a line that is not over
}

const maxRest = 16 << 10

// Write never fails: a terminal that is gone ends nothing.
func (p *prefixer) Write(data []byte) (int, error) {
	p.rest = append(p.rest, data...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 && len(p.rest) > maxRest {
		end = len(p.rest)
	}
	var b bytes.Buffer
	for line := range bytes.Lines(p.rest[:end]) {
		b.WriteString(p.prefix)
		b.Write(line)
	}
	p.rest = append(p.rest[:0], p.rest[end:]...)
	_, _ = p.to.Write(b.Bytes())
	return len(data), nil
}

// A locked writer lets several goroutines write, one at a time.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
