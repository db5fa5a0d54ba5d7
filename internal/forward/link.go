package forward

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A link begins with a request of HTTP/1.1 to the Socket.IO path of the other node:
//
//	GET /socket.io/ HTTP/1.1
//	Connection: Upgrade
//	Upgrade: atoll-link/1
//	Atoll-Link: NODE INSTANCE NUMBER CODE
//
// NODE is who asks, INSTANCE its instance (16 hexadecimal digits), NUMBER (decimal) grows with each link it asks for, so
// that what was heard on the way is worth nothing, and CODE is the HMAC-SHA256 of all that and of the other node's id, with the
// key that this node gave it over the cluster. The answer is
//
//	HTTP/1.1 101 Switching Protocols
//	Connection: Upgrade
//	Upgrade: atoll-link/1
//	Atoll-Link: CODE
//
// with another code, so that each knows whom it talks to. From then on there are frames.
const (
	linkProtocol = "atoll-link/1"
	linkHeader   = "Atoll-Link"
)

var (
	errRefused = errors.New("forward: no connection to the other node")
	errForged  = errors.New("forward: the answer is not the other node's: the URL leads to somebody else")
)

// linkCode is the code of a request for a link, or of its answer.
func linkCode(key []byte, what, from, to, instance, number string) string {
	m := hmac.New(sha256.New, key)
	for _, s := range []string{"atoll-link/1 " + what, from, to, instance, number} {
		m.Write([]byte(s))
		m.Write([]byte{0})
	}
	return hex.EncodeToString(m.Sum(nil))
}

// A wire is the pipe of a link.
type wire struct{ net.Conn }

func (w wire) write(b []byte) error {
	_, err := w.Conn.Write(b)
	return err
}

func (w wire) close(error) { w.Conn.Close() }

// dial makes a link to the node, at the first of its URLs that works.
func (x *peer) dial(c card, within time.Duration) (*outbound, error) {
	p := x.p
	if c.never || p.place.never {
		x.mu.Lock()
		x.pause = longestPause
		x.mu.Unlock()
		return nil, errNoURL
	}
	var errs []error
	for _, u := range p.pick(&c) {
		ctx, cancel := context.WithTimeout(p.ctx, within)
		conn, rest, err := x.dialURL(ctx, u, &c)
		cancel()
		if err != nil {
			p.count.failed.Add(1)
			errs = append(errs, fmt.Errorf("%s: %w", u.Redacted(), err))
			continue
		}
		p.count.made.Add(1)
		o := newOutbound(p, x, wire{conn}, false)
		if !p.group.Go(func() { o.read(conn, rest, o.frame) }) {
			conn.Close()
			return nil, ErrClosed
		}
		return o, nil
	}
	if errs == nil {
		return nil, errNoURL
	}
	return nil, errors.Join(errs...)
}

// dialURL asks for a link. rest is what came behind the answer.
func (x *peer) dialURL(ctx context.Context, u *url.URL, c *card) (conn net.Conn, rest []byte, err error) {
	p := x.p
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	if conn, err = p.o.Dial(ctx, "tcp", host); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	raw := conn
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			raw.Close()
			conn = nil
		}
	}()
	if u.Scheme == "https" {
		cfg := &tls.Config{}
		if p.o.TLS != nil {
			cfg = p.o.TLS.Clone()
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		cfg.NextProtos = []string{"http/1.1"}
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, nil, err
		}
		conn = secure
	}
	instance := fmt.Sprintf("%016x", p.instance)
	number := strconv.FormatUint(p.dialled.Add(1), 10)
	head := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nConnection: Upgrade\r\nUpgrade: " + linkProtocol +
		"\r\n" + linkHeader + ": " + strings.Join([]string{p.self, instance, number, linkCode(c.key, "ask", p.self, x.id, instance, number)}, " ") + "\r\n\r\n"
	if _, err := conn.Write([]byte(head)); err != nil {
		return nil, nil, err
	}
	br := bufio.NewReaderSize(conn, 4<<10)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != linkProtocol:
		return nil, nil, fmt.Errorf("status %s", res.Status)
	case !hmac.Equal([]byte(res.Header.Get(linkHeader)), []byte(linkCode(c.key, "answer", p.self, x.id, instance, number))):
		return nil, nil, errForged
	}
	if n := br.Buffered(); n > 0 {
		rest, _ = br.Peek(n)
	}
	return conn, rest, nil
}

// read takes in frames until the link ends.
func (l *line) read(conn net.Conn, rest []byte, handle func(frame) error) {
	var ps parser
	err := ps.feed(rest, handle)
	b := make([]byte, chunk)
	for err == nil {
		var n int
		n, err = conn.Read(b)
		l.heard.Store(l.p.tick.Load())
		if n > 0 {
			if e := ps.feed(b[:n], handle); e != nil {
				err = e
			}
		}
	}
	if !errors.Is(err, errMalformed) && !errors.Is(err, errWindow) {
		err = fmt.Errorf("%w: %v", errBroken, err) // of io.EOF nobody shall think that it was in order
	}
	l.fail(err)
}

// ServeLink reports whether r is a request for a link. If so it is served: the link is made, or the request gets status
// 403. For any other request it costs a look at one header.
func (p *Peers) ServeLink(w http.ResponseWriter, r *http.Request) bool {
	if h := r.Header["Upgrade"]; len(h) != 1 || h[0] != linkProtocol {
		return false
	}
	x, answer := p.admit(r)
	if x == nil {
		p.count.refused.Add(1)
		http.Error(w, "no link", http.StatusForbidden)
		return true
	}
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.count.refused.Add(1)
		http.Error(w, "no link: the connection cannot be taken", http.StatusForbidden)
		return true
	}
	conn.SetDeadline(time.Time{})
	in := newInbound(p, x, wire{conn})
	x.mu.Lock()
	old, left := x.inLink, x.left
	if left == nil {
		x.inLink = in
	}
	x.mu.Unlock()
	if old != nil && left == nil {
		old.fail(errBroken)
	}
	rest, _ := brw.Reader.Peek(brw.Reader.Buffered())
	in.mu.Lock()
	in.pending = append(in.pending, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+linkProtocol+"\r\n"+linkHeader+": "+answer+"\r\n\r\n"...)
	in.release(true)
	if left != nil || !p.group.Go(func() { in.read(conn, rest, in.frame) }) {
		in.fail(errLeft)
	}
	return true
}

// admit checks that r comes from another node, and that it is not a repetition. It keeps nothing for others.
func (p *Peers) admit(r *http.Request) (x *peer, answer string) {
	h := r.Header[linkHeader]
	if len(h) != 1 || len(h[0]) > 256 || r.Method != http.MethodGet || r.ProtoMajor != 1 || p.place.never || wasForwarded(r) {
		return nil, ""
	}
	f := strings.Split(h[0], " ")
	if len(f) != 4 {
		return nil, ""
	}
	from, instanceText, numberText, code := f[0], f[1], f[2], f[3]
	x = p.view.Load().peers[from]
	instance, err1 := strconv.ParseUint(instanceText, 16, 64)
	number, err2 := strconv.ParseUint(numberText, 10, 64)
	if x == nil || err1 != nil || err2 != nil {
		return nil, ""
	}
	key := p.keyFor(from, instance)
	if !hmac.Equal([]byte(code), []byte(linkCode(key, "ask", from, p.self, instanceText, numberText))) {
		return nil, ""
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.left != nil || x.inConn != instance || number <= x.inCount {
		return nil, ""
	}
	x.inCount = number
	return x, linkCode(key, "answer", from, p.self, instanceText, numberText)
}
