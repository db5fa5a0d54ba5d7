package sticky

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A feed is a client's connection: it sends what was written down, in pieces, and takes everything.
type feed struct {
	mu    sync.Mutex
	in    []byte
	piece int
	out   bytes.Buffer
}

func (s *feed) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.in[:min(len(s.in), s.piece)])
	s.in = s.in[n:]
	return n, nil
}

func (s *feed) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *feed) Close() error                     { return nil }
func (s *feed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *feed) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (s *feed) SetDeadline(time.Time) error      { return nil }
func (s *feed) SetReadDeadline(time.Time) error  { return nil }
func (s *feed) SetWriteDeadline(time.Time) error { return nil }

// A seen request is what net/http makes of one.
type seenRequest struct {
	method, uri, host, body string
	header                  http.Header
}

func see(br *bufio.Reader) (*seenRequest, error) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return &seenRequest{r.Method, r.RequestURI, r.Host, string(body), r.Header}, nil
}

// A reader is a node's connection: net/http reads the requests, and each is answered.
type reader struct {
	feed
	all  *[]*seenRequest
	got  *bytes.Buffer
	lock sync.Mutex
	cond *sync.Cond
	shut bool
}

func newReader(all *[]*seenRequest) *reader {
	r := &reader{all: all, got: new(bytes.Buffer)}
	r.cond = sync.NewCond(&r.lock)
	return r
}

func (r *reader) Write(b []byte) (int, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.shut {
		return 0, net.ErrClosed
	}
	r.got.Write(b)
	r.cond.Broadcast()
	return len(b), nil
}

func (r *reader) Close() error {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.shut = true
	r.cond.Broadcast()
	return nil
}

// Read answers the next request when that is complete.
func (r *reader) Read(b []byte) (int, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for !r.shut {
		if len(r.in) > 0 {
			n := copy(b, r.in)
			r.in = r.in[n:]
			return n, nil
		}
		br := bufio.NewReader(bytes.NewReader(r.got.Bytes()))
		req, err := see(br)
		if err == nil {
			*r.all = append(*r.all, req)
			rest, _ := io.ReadAll(br)
			r.got = bytes.NewBuffer(rest)
			r.in = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if req.method == http.MethodHead {
				r.in = []byte("HTTP/1.1 200 OK\r\n\r\n")
			}
			continue
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
			r.in = nil
			*r.all = append(*r.all, &seenRequest{method: "BROKEN", uri: err.Error(), body: r.got.String()})
			r.shut = true
			return 0, io.EOF
		}
		r.cond.Wait()
	}
	return 0, io.EOF
}

// play lets a balancer serve what a client sends, in pieces of some bytes, and returns what a node made of
// net/http gets, and what the client gets.
func play(t testing.TB, l *Balancer, all *[]*seenRequest, input string, piece int) ([]*seenRequest, string) {
	s := &feed{in: []byte(input), piece: max(piece, 1)}
	return playOn(t, l, all, s, input), s.out.String()
}

// playOn is play on the given connection.
func playOn(t testing.TB, l *Balancer, all *[]*seenRequest, s net.Conn, input string) []*seenRequest {
	*all = nil
	c := &client{f: l.front}
	c.init(s)
	l.front.mu.Lock()
	l.front.conns++
	l.front.clients[c] = struct{}{}
	l.running.Add(1)
	l.front.mu.Unlock()
	c.serve()
	b := l.view.Load().list[0]
	for u := b.pool.get(); u != nil; u = b.pool.get() {
		if left := u.Conn.(*reader).got.String(); left != "" {
			t.Errorf("%q reached the node as more than one request; behind them is %q", input, left)
		}
		u.Close()
	}
	return *all
}

// scripted returns a balancer in front of such a node.
func scripted(t testing.TB) (*Balancer, *[]*seenRequest) {
	all := new([]*seenRequest)
	l, err := newBalancer(&Options{
		Backends: []Backend{{URL: "node:80"}}, Health: Health{Path: "-", Interval: time.Hour}, Logger: slog.New(slog.DiscardHandler),
	}, func(context.Context, string, string) (net.Conn, error) { return newReader(all), nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.settled(t.Context())
	return l, all
}

// FuzzFront: whatever a client sends, each request that goes to a node is for net/http exactly one, and
// means what the client's means for net/http.
func FuzzFront(f *testing.F) {
	for _, c := range smugglings {
		f.Add(c.text, 7)
	}
	l, all := scripted(f)
	f.Fuzz(func(t *testing.T, input string, piece int) {
		if len(input) > 64<<10 {
			return
		}
		got, out := play(t, l, all, input, piece)
		ref := bufio.NewReader(strings.NewReader(strings.TrimPrefix(input, "\r\n")))
		for i, g := range got {
			if g.method == "BROKEN" {
				t.Fatalf("%q: the node got %q: %s", input, g.body, g.uri)
			}
			if peek, _ := ref.Peek(2); string(peek) == "\r\n" {
				ref.Discard(2)
			}
			want, err := see(ref)
			if err != nil {
				t.Fatalf("%q: request %d was passed on, for net/http it is %v", input, i, err)
			}
			compare(t, input, g, want)
		}
		if len(got) == 0 && out == "" && strings.Contains(input, "\r\n\r\n") && !strings.HasPrefix(input, "\r\n") {
			t.Errorf("%q: got no answer", input)
		}
	})
}

func compare(t *testing.T, input string, got, want *seenRequest) {
	t.Helper()
	uri := want.uri
	if _, rest, ok := strings.Cut(uri, "://"); ok && !strings.HasPrefix(uri, "/") {
		uri = "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			uri = "/" + strings.TrimPrefix(rest[i:], "/")
		}
	}
	if got.method != want.method || got.uri != uri || got.host != want.host || got.body != want.body {
		t.Fatalf("%q: the node got %s %s of %s with %q, the client meant %s %s of %s with %q",
			input, got.method, got.uri, got.host, got.body, want.method, uri, want.host, want.body)
	}
	for name, v := range got.header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Connection" || name == "Upgrade" || name == "Content-Length" {
			continue
		}
		if w := want.header[name]; strings.Join(w, "\n") != strings.Join(v, "\n") {
			t.Fatalf("%q: header %s is %q, the client sent %q", input, name, v, w)
		}
	}
}
