package doctor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxAnswer is how much of a body is read, in bytes.
const maxAnswer = 16 << 20

// A line is a connection to the front, for requests one after the other.
type line struct {
	v *visit
	net.Conn
	r      *bufio.Reader
	budget int64 // bytes that may still be read
}

// allowance is how much a front may send in answer to one request, in bytes.
const allowance = maxAnswer + 1<<20

// Read reads, within bounds: who answers may be anybody.
func (l *line) Read(b []byte) (int, error) {
	if l.budget <= 0 {
		return 0, errors.New("the answer is too long")
	}
	n, err := l.Conn.Read(b)
	l.budget -= int64(n)
	return n, err
}

// address is where to connect.
func (v *visit) address() string {
	port := v.u.Port()
	if port == "" {
		port = "80"
		if v.u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(v.u.Hostname(), port)
}

// dial opens a connection: to addr, or if that is empty to where the URL leads.
func (v *visit) dial(addr string) (*line, error) {
	if addr == "" {
		addr = v.address()
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.o.Timeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if v.u.Scheme == "https" {
		t := tls.Client(c, v.tls("http/1.1"))
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	l := &line{v: v, Conn: c, budget: allowance}
	l.r = bufio.NewReaderSize(l, 16<<10)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	v.conns[l] = struct{}{}
	return l, nil
}

func (v *visit) tls(protocols ...string) *tls.Config {
	conf := &tls.Config{}
	if v.o.TLS != nil {
		conf = v.o.TLS.Clone()
	}
	conf.ServerName, conf.NextProtos = v.u.Hostname(), protocols
	return conf
}

func (l *line) close() {
	l.v.mu.Lock()
	delete(l.v.conns, l)
	l.v.mu.Unlock()
	l.Conn.Close()
}

// closeAll has whatever waits on a connection end.
func (v *visit) closeAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for l := range v.conns {
		l.Conn.Close()
	}
}

// A request is one as it is written.
type request struct {
	method, target string
	header         []string // lines
	body           string
	wait           time.Duration // for the answer; zero: the usual
	declared       int           // if not zero: the body's length as it is told, without sending one
	keep           bool          // the connection is used again
}

// An answer is a response, whole.
type answer struct {
	asked  string // method and target, for people
	status int
	header http.Header
	body   []byte
	query  string        // of the URL, whose values are not for people
	cut    error         // the body ended early
	took   time.Duration // until the end of the body
}

// String is the answer in a line.
func (a *answer) String() string {
	s := fmt.Sprintf("%s: %d", a.asked, a.status)
	if t := a.header.Get("Content-Type"); t != "" {
		s += " " + t
	}
	if n := a.header.Get("Server"); n != "" {
		s += ", Server: " + n
	}
	text := hide(string(a.body), a.query)
	text = strings.Join(strings.Fields(text[:min(len(text), 400)]), " ")
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	if text != "" && a.status != 200 {
		s += ": " + text
	}
	return fmt.Sprintf("%s (%.2f s)", s, a.took.Seconds())
}

// code is the code of an error of the server.
func (a *answer) code() (int, bool) {
	if a == nil || a.status < 400 {
		return 0, false
	}
	var e struct {
		Code    *int
		Message *string
	}
	if json.Unmarshal(a.body, &e) != nil || e.Code == nil || e.Message == nil {
		return 0, false
	}
	return *e.Code, true
}

// unknown reports whether the answer is that of a server that does not have the session.
func (a *answer) unknown() bool {
	c, ok := a.code()
	return ok && c == 1
}

func (a *answer) html() bool {
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		return true
	}
	b := bytes.ToLower(bytes.TrimSpace(a.body))
	return bytes.HasPrefix(b, []byte("<!doctype")) || bytes.HasPrefix(b, []byte("<html"))
}

// bad is whether it is one of a proxy that has nobody to ask.
func (a *answer) bad() bool {
	_, own := a.code()
	return (a.status == 502 || a.status == 503 || a.status == 504) && !own
}

// do sends a request and reads the answer. Whoever closed the connection before one came, the error says.
func (l *line) do(q request) (*answer, error) {
	began := time.Now()
	if err := l.send(q); err != nil {
		// The answer may be there already: some refuse a body before it has come.
		if a, err := l.receive(q, began); err == nil {
			return a, nil
		}
		return nil, err
	}
	return l.receive(q, began)
}

func (l *line) send(q request) error {
	v := l.v
	v.mu.Lock()
	v.report.Requests++
	v.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, q.target, v.u.Host)
	b.WriteString("User-Agent: atoll-check\r\nAccept: */*\r\n")
	if !q.keep && !slices.ContainsFunc(q.header, func(h string) bool { return strings.HasPrefix(h, "Connection:") }) {
		b.WriteString("Connection: close\r\n")
	}
	for _, h := range q.header {
		b.WriteString(h + "\r\n")
	}
	if q.method == http.MethodPost {
		if q.declared == 0 {
			q.declared = len(q.body)
		}
		fmt.Fprintf(&b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n", q.declared)
	}
	b.WriteString("\r\n")
	l.SetDeadline(time.Now().Add(q.patience(v)))
	if _, err := io.WriteString(l, b.String()); err != nil {
		return err
	}
	_, err := io.WriteString(l, q.body)
	return err
}

func (q *request) patience(v *visit) time.Duration {
	if q.wait > 0 {
		return q.wait
	}
	return v.o.Timeout
}

func (l *line) receive(q request, began time.Time) (*answer, error) {
	l.SetReadDeadline(time.Now().Add(q.patience(l.v)))
	l.budget = allowance
	var res *http.Response
	for range 6 { // what comes before the answer (100, 103) is none
		var err error
		if res, err = http.ReadResponse(l.r, &http.Request{Method: q.method}); err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	a := &answer{asked: q.method + " " + l.v.short(q.target), status: res.StatusCode, header: res.Header, query: l.v.u.RawQuery}
	if res.StatusCode != http.StatusSwitchingProtocols {
		a.body, a.cut = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		res.Body.Close()
		if a.header.Get("Content-Encoding") == "gzip" && a.cut == nil {
			if z, err := gzip.NewReader(bytes.NewReader(a.body)); err != nil {
				a.cut = err
			} else if a.body, err = io.ReadAll(io.LimitReader(z, maxAnswer)); err != nil {
				a.cut = err
			}
		}
	}
	a.took = time.Since(began)
	l.v.note(a)
	return a, nil
}

// short leaves what may be secret out of a target: the session id, which is all that is needed to read the session, and
// the values of the URL's own parameters, among which tokens are.
func (v *visit) short(target string) string {
	if v.u.RawQuery != "" {
		target = strings.Replace(target, v.u.RawQuery, names(v.u.RawQuery), 1)
	}
	before, after, ok := strings.Cut(target, "&sid=")
	if !ok {
		return target
	}
	id, rest, more := strings.Cut(after, "&")
	if len(id) > 6 {
		id = id[:6] + "…"
	}
	if more {
		rest = "&" + rest
	}
	return before + "&sid=" + id + rest
}

// names leaves the values out of a query.
func names(query string) string {
	pairs := strings.Split(query, "&")
	for i, p := range pairs {
		if name, _, ok := strings.Cut(p, "="); ok {
			pairs[i] = name + "=…"
		}
	}
	return strings.Join(pairs, "&")
}

// hide leaves the values of a query out of a text that repeats it, as the page of a redirect does.
func hide(text, query string) string {
	for p := range strings.SplitSeq(query, "&") {
		if strings.Contains(p, "=") {
			text = strings.ReplaceAll(text, p, names(p))
		}
	}
	return text
}

// shown is a URL for people, without the values of its parameters.
func shown(u *url.URL) string {
	all, _, _ := strings.Cut(u.String(), "?")
	if u.RawQuery != "" {
		all += "?" + names(u.RawQuery)
	}
	return all
}

// once sends a request over a connection of its own.
func (v *visit) once(q request) (*answer, error) {
	l, err := v.dial("")
	if err != nil {
		return nil, err
	}
	defer l.close()
	return l.do(q)
}

// outcome is an answer or an error in a line.
func outcome(what string, a *answer, err error) string {
	if err != nil {
		return what + ": " + plain(err)
	}
	return a.String()
}

// plain says in words what the error of a connection means.
func plain(err error) string {
	switch {
	case isTimeout(err):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	case strings.Contains(err.Error(), "reset by peer"):
		return "the connection was reset"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}
