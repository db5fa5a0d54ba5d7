package sticky

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A LogFormat is how a line of the access log is written.
type LogFormat string

// The formats.
const (
	// CommonLog is the Common Log Format.
	CommonLog LogFormat = "common"
	// CombinedLog is that with Referer and User-Agent, and at the end the node, the duration in seconds and the number of
	// nodes that were tried before.
	CombinedLog LogFormat = "combined"
	// JSONLog is a JSON object in each line.
	JSONLog LogFormat = "json"
)

// A LogFile writes an access log. Make one with [OpenLog]; its Log is for [Options.AccessLog]. Any number of
// goroutines may use it. Lines reach the file within a second.
type LogFile struct {
	path   string
	format LogFormat
	ids    bool
	stop   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	f      io.WriteCloser
	w      *bufio.Writer
	buf    []byte
	closed bool
	err    error // of the last write
}

// OpenLog opens the file at path, and makes it where there is none; "-" is the standard output. An
// empty format is CombinedLog. Session ids are secrets; unless ids is set, they are written as "-".
func OpenLog(path string, format LogFormat, ids bool) (*LogFile, error) {
	switch format {
	case "":
		format = CombinedLog
	case CommonLog, CombinedLog, JSONLog:
	default:
		return nil, fmt.Errorf("sticky: no log format %q: use common, combined or json", string(format))
	}
	f := &LogFile{path: path, format: format, ids: ids, stop: make(chan struct{}), done: make(chan struct{})}
	w, err := f.open()
	if err != nil {
		return nil, err
	}
	f.f, f.w = w, bufio.NewWriterSize(w, 64<<10)
	go f.flush()
	return f, nil
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

func (f *LogFile) open() (io.WriteCloser, error) {
	if f.path == "-" {
		return keepOpen{os.Stdout}, nil
	}
	w, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("sticky: access log: %w", err)
	}
	return w, nil
}

// flush writes out what waits, once in a second.
func (f *LogFile) flush() {
	defer close(f.done)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-t.C:
			f.mu.Lock()
			f.err = f.w.Flush()
			f.heal()
			f.mu.Unlock()
		}
	}
}

// heal lets the writer go on after an error, such as a full disk. f.mu is held.
func (f *LogFile) heal() {
	if f.err != nil {
		f.w.Reset(f.f)
	}
}

// Reopen opens the file anew, after it was renamed for rotation. Where that fails, the old one goes on.
func (f *LogFile) Reopen() error {
	w, err := f.open()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		w.Close()
		return errors.New("sticky: access log: it is closed")
	}
	err = errors.Join(f.w.Flush(), f.f.Close())
	f.f = w
	f.w.Reset(w)
	return err
}

// Close writes out what waits and closes the file. Later lines are dropped.
func (f *LogFile) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	err := errors.Join(f.w.Flush(), f.f.Close())
	f.mu.Unlock()
	close(f.stop)
	<-f.done
	return err
}

// Log writes a line. Lines that cannot be written are lost.
func (f *LogFile) Log(a *Access) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.buf = f.appendLine(f.buf[:0], a)
	_, f.err = f.w.Write(f.buf)
	f.heal()
}

func (f *LogFile) appendLine(b []byte, a *Access) []byte {
	target := a.Path
	if q := a.Query; q != "" {
		if !f.ids {
			q = withoutIDs(q)
		}
		target += "?" + q
	}
	client := "-"
	if a.Client.Addr().IsValid() {
		client = a.Client.Addr().String()
	}
	if f.format == JSONLog {
		line := struct {
			Time    time.Time `json:"time"`
			Client  string    `json:"client"`
			Method  string    `json:"method"`
			Host    string    `json:"host"`
			Target  string    `json:"target"`
			Status  int       `json:"status"`
			Sent    int64     `json:"sent"`
			Seconds float64   `json:"seconds"`
			Backend string    `json:"backend,omitempty"`
			Session string    `json:"session,omitempty"`
			Retries int       `json:"retries,omitempty"`
			Referer string    `json:"referer,omitempty"`
			Agent   string    `json:"agent,omitempty"`
		}{a.Time, client, a.Method, a.Host, target, a.Status, a.Sent, seconds(a.Duration), a.Backend, "", a.Retries, a.Referer, a.Agent}
		if f.ids {
			line.Session = a.Session
		}
		text, err := json.Marshal(line)
		if err != nil {
			return b // a year beyond 9999
		}
		return append(append(b, text...), '\n')
	}
	b = append(b, client...)
	b = append(b, " - - ["...)
	b = a.Time.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendQuoted(b, a.Method)
	b = append(b, ' ')
	b = appendQuoted(b, target)
	b = append(b, ` HTTP/1.1" `...)
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, a.Sent, 10)
	if f.format == CombinedLog {
		b = append(b, ` "`...)
		b = appendQuoted(b, orElse(a.Referer, "-"))
		b = append(b, `" "`...)
		b = appendQuoted(b, orElse(a.Agent, "-"))
		b = append(b, `" "`...)
		b = appendQuoted(b, orElse(a.Backend, "-"))
		b = append(b, `" `...)
		b = strconv.AppendFloat(b, seconds(a.Duration), 'f', 4, 64)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(a.Retries), 10)
	}
	return append(b, '\n')
}

func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

// appendQuoted appends s so that it ends neither the quotes nor the line.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\' || c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// withoutIDs takes the session ids out of a query.
func withoutIDs(q string) string {
	var b strings.Builder
	for i, pair := range strings.Split(q, "&") {
		if i > 0 {
			b.WriteByte('&')
		}
		if key, _, _ := strings.Cut(pair, "="); unescape(key) == "sid" {
			pair = key + "=-"
		}
		b.WriteString(pair)
	}
	return b.String()
}
