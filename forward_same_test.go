package atoll_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/engine"
)

// A door is a node that a test asks, for a session of another or of its own.
type door struct {
	testing.TB
	addr  string
	owner string // where sessions begin
	n     *atoll.Server
	lines []string // what the requests have shown

	arrived *atomic.Int64 // requests that have come to where their session is
	slow    chan struct{} // lets the slow handler go on
}

// note notes what was seen.
func (d *door) note(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// An exchange is a connection with a request under way.
type exchange struct {
	d    *door
	conn net.Conn
	r    *bufio.Reader
	req  *http.Request
}

// begin sends a request: a method, a query and headers, then a body with its length, unless the headers say something about that.
func (d *door) begin(addr, method, query, body string, headers ...string) *exchange {
	d.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /socket.io/?%s HTTP/1.1\r\nHost: example.test\r\n", method, query)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if all := strings.Join(headers, "\n"); (body != "" || method == "POST") && !strings.Contains(all, "Content-Length") && !strings.Contains(all, "Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	go conn.Write(b.Bytes()) // the answer may come before all is read
	return &exchange{d: d, conn: conn, r: bufio.NewReader(conn), req: &http.Request{Method: method}}
}

// end reads the answer.
func (x *exchange) end() (string, []byte) {
	x.d.Helper()
	res, err := http.ReadResponse(x.r, x.req)
	if err != nil {
		return "no answer", nil
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return head(res), nil
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return head(res) + "body: broken", body
	}
	return head(res), body
}

// head writes the head of an answer, without its date.
func head(res *http.Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s length %d %v close %v\n", res.Proto, res.Status, res.ContentLength, res.TransferEncoding, res.Close)
	res.Header.Del("Date")
	for _, k := range slices.Sorted(maps.Keys(res.Header)) {
		fmt.Fprintf(&b, "%s: %q\n", k, res.Header[k])
	}
	return b.String()
}

// do makes a request here, and notes the answer.
func (d *door) do(method, query, body string, headers ...string) []byte {
	d.Helper()
	return d.finish(d.begin(d.addr, method, query, body, headers...))
}

func (d *door) finish(x *exchange) []byte {
	d.Helper()
	head, body := x.end()
	x.conn.Close()
	d.note("%s%.200q (%d bytes)", head, body, len(body))
	return body
}

// open opens a session at the owner and connects to the main namespace; it returns the query of its requests.
func (d *door) open() string {
	d.Helper()
	_, body := d.begin(d.owner, "GET", "EIO=4&transport=polling", "").end()
	var o struct{ SID string }
	if len(body) == 0 || json.Unmarshal(body[1:], &o) != nil {
		d.Fatalf("handshake: got %q", body)
	}
	return "EIO=4&transport=polling&sid=" + o.SID
}

// enter is open, with a socket in the main namespace.
func (d *door) enter() string {
	d.Helper()
	q := d.open()
	d.begin(d.owner, "POST", q, "40").end()
	if _, body := d.begin(d.owner, "GET", q, "").end(); !strings.HasPrefix(string(body), `40{"sid"`) {
		d.Fatalf("CONNECT: got %q", body)
	}
	return q
}

// poll opens a poll, and returns when it waits.
func (d *door) poll(q string) *exchange {
	d.Helper()
	return d.under(func() *exchange { return d.begin(d.addr, "GET", q, "") })
}

// under begins a request and returns when it is under way.
func (d *door) under(begin func() *exchange) *exchange {
	d.Helper()
	before := d.arrived.Load()
	x := begin()
	eventually(d, "the request arrives", func() bool { return d.arrived.Load() > before })
	time.Sleep(10 * time.Millisecond) // from there on it is a matter of microseconds
	return x
}

// ended notes for which reason a session has ended at the owner since the counters were as before.
func (d *door) ended(before engine.Stats) {
	d.Helper()
	eventually(d, "the session ends", func() bool {
		after := d.n.Stats().Engine
		for why, n := range after.Closed {
			if n > before.Closed[why] {
				d.note("ended: %s", why)
				return true
			}
		}
		return false
	})
}

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

func wsQuery(q string) string { return strings.Replace(q, "polling", "websocket", 1) }

// frame is a frame of a client, with a mask of zeros.
func frame(first byte, data string) string {
	return string([]byte{first, 0x80 | byte(len(data)), 0, 0, 0, 0}) + data
}

// ws asks for a WebSocket and notes the answer.
func (d *door) ws(q string, headers ...string) *exchange {
	d.Helper()
	if headers == nil {
		headers = []string{upgradeHeaders}
	}
	x := d.begin(d.addr, "GET", wsQuery(q), "", headers...)
	head, body := x.end()
	d.note("%s%q", head, body)
	return x
}

func (x *exchange) say(frames ...string) { io.WriteString(x.conn, strings.Join(frames, "")) }

// hear notes the next n bytes.
func (x *exchange) hear(n int) {
	x.d.Helper()
	b := make([]byte, n)
	m, err := io.ReadFull(x.r, b)
	x.d.note("%q %v", b[:m], err)
}

var sameCases = []struct {
	name string
	do   func(d *door)
}{
	{"event and answer", func(d *door) {
		q := d.enter()
		d.do("POST", q, `42["say",1]`)
		d.do("GET", q, "")
	}},
	{"a poll that waits", func(d *door) {
		q := d.enter()
		x := d.poll(q)
		d.do("POST", q, "42[\"say\",1]\x1e42[\"say\",2]")
		d.finish(x)
	}},
	{"overlapping polls", func(d *door) {
		q := d.enter()
		before := d.n.Stats().Engine
		x := d.poll(q)
		d.do("GET", q, "")
		d.finish(x)
		d.ended(before)
		d.do("GET", q, "")
	}},
	{"overlapping POSTs", func(d *door) {
		q := d.enter()
		before := d.n.Stats().Engine
		x := d.under(func() *exchange { return d.begin(d.owner, "POST", q, "42[\"say", "Content-Length: 100") })
		d.do("POST", q, `42["say",1]`)
		x.conn.Close()
		d.ended(before)
	}},
	{"POST too large", func(d *door) {
		before := d.n.Stats().Engine
		d.do("POST", d.enter(), "4"+strings.Repeat("x", 100_000))
		d.ended(before)
	}},
	{"POST too large, in chunks", func(d *door) {
		before := d.n.Stats().Engine
		body := strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 30) + "0\r\n\r\n"
		d.do("POST", d.enter(), body, "Transfer-Encoding: chunked")
		d.ended(before)
	}},
	{"POST in chunks", func(d *door) {
		q := d.enter()
		d.do("POST", q, "4\r\n42[\"\r\n7\r\nsay\",1]\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
		d.do("GET", q, "")
	}},
	{"POST that expects to be told to continue", func(d *door) {
		q := d.enter()
		x := d.begin(d.addr, "POST", q, "", "Expect: 100-continue", "Content-Length: 11")
		res, err := http.ReadResponse(x.r, x.req)
		if err != nil {
			d.Fatal(err)
		}
		d.note("%s", head(res))
		io.WriteString(x.conn, `42["say",1]`)
		d.finish(x)
	}},
	{"POST as large as allowed", func(d *door) {
		q := d.enter()
		blob := strings.Repeat("x", 90_000)
		d.do("POST", q, `42["text","`+blob+`"]`)
		if got := d.do("GET", q, ""); !bytes.Contains(got, []byte(blob)) {
			d.note("something else came back")
		}
	}},
	{"POST of bytes", func(d *door) {
		d.do("POST", d.enter(), "\x01", "Content-Type: application/octet-stream")
	}},
	{"POST of no packet", func(d *door) {
		before := d.n.Stats().Engine
		d.do("POST", d.enter(), "x")
		d.ended(before)
	}},
	{"POST that is not UTF-8", func(d *door) { d.do("POST", d.enter(), "4\xff") }},
	{"empty POST", func(d *door) { d.do("POST", d.enter(), "") }},
	{"POST that breaks off", func(d *door) {
		q := d.enter()
		before := d.n.Stats().Engine
		x := d.begin(d.addr, "POST", q, "42[\"say", "Content-Length: 100")
		time.Sleep(20 * time.Millisecond) // not needed for the outcome
		x.conn.Close()
		d.ended(before)
	}},
	{"binary", func(d *door) {
		q := d.enter()
		d.do("POST", q, "451-[\"blob\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
		d.do("GET", q, "")
	}},
	{"close packet", func(d *door) {
		q := d.enter()
		before := d.n.Stats().Engine
		x := d.poll(q)
		d.do("POST", q, "1")
		d.finish(x)
		d.ended(before)
		d.do("POST", q, "42[\"say\",1]")
	}},
	{"closed by the server", func(d *door) {
		q := d.enter()
		x := d.poll(q)
		d.do("POST", q, `42["bye"]`)
		d.finish(x)
		d.do("GET", q, "")
	}},
	{"client gone while polling", func(d *door) {
		q := d.enter()
		before := d.n.Stats().Engine
		d.poll(q).conn.Close()
		d.ended(before)
		d.do("GET", q, "")
	}},
	{"other methods", func(d *door) {
		q := d.open()
		for _, m := range []string{"PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"} {
			d.do(m, q, "")
		}
	}},
	{"wrong transport", func(d *door) {
		q := d.open()
		d.do("GET", strings.Replace(q, "polling", "webtransport", 1), "")
		d.do("GET", strings.Replace(q, "polling", "", 1), "")
		d.do("GET", wsQuery(q), "")
		d.do("POST", wsQuery(q), "4", upgradeHeaders)
	}},
	{"unknown sessions", func(d *door) {
		q := d.open()
		d.do("GET", q[:len(q)-8]+"AAAAAAAA", "")
		d.do("POST", q[:len(q)-8]+"AAAAAAAA", "4x")
		d.do("GET", q+"x", "")
		d.do("GET", q[:len(q)-1]+"!", "")
		d.do("GET", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", "")
		d.ws(q[:len(q)-8] + "AAAAAAAA").conn.Close()
	}},
	{"compressed", func(d *door) {
		q := d.enter()
		d.do("POST", q, `42["text","`+strings.Repeat("hello ", 1000)+`"]`)
		d.do("GET", q, "", "Accept-Encoding: gzip, deflate")
	}},
	{"large answer", func(d *door) {
		q := d.enter()
		d.do("POST", q, `42["large"]`)
		if body := d.do("GET", q, ""); len(body) < 700_000 || strings.Trim(string(body[len(body)-500_000:len(body)-2]), "x") != "" {
			d.note("something else came")
		}
	}},
	{"handler that takes its time", func(d *door) {
		q := d.enter()
		d.do("POST", q, `42["slow"]`) // is answered before the handler ends
		d.slow <- struct{}{}
		d.do("GET", q, "")
	}},
	{"other origins", func(d *door) {
		q := d.enter()
		d.do("POST", q, `42["say",1]`, "Origin: https://app.test")
		d.do("GET", q, "", "Origin: https://app.test", "Accept-Encoding: gzip")
		d.do("GET", q, "", "Origin: https://evil.test")
		d.do("OPTIONS", q, "", "Origin: https://app.test", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-a")
		d.do("GET", q[:len(q)-8]+"AAAAAAAA", "", "Origin: https://app.test")
		d.ws(q, upgradeHeaders, "Origin: https://evil.test").conn.Close()
	}},
	{"upgrade", func(d *door) {
		q := d.enter()
		x := d.ws(q)
		x.say(frame(0x81, "2probe"))
		x.hear(2 + len("3probe"))
		x.say(frame(0x81, "5"), frame(0x81, `42["say",1]`))
		x.hear(2 + len(`42["said",1]`))
		x.say(frame(0x89, "ping"))
		x.hear(2 + len("ping"))
		d.do("GET", q, "")
		d.do("POST", q, "4x")
		second := d.ws(q)
		second.hear(4)
		before := d.n.Stats().Engine
		x.say(frame(0x88, "\x03\xe8"))
		x.hear(4)
		d.ended(before)
	}},
	{"upgrade while a poll waits", func(d *door) {
		q := d.enter()
		p := d.poll(q)
		x := d.ws(q)
		x.say(frame(0x81, "2probe"))
		x.hear(2 + len("3probe"))
		d.finish(p)
		x.say(frame(0x81, "5"), frame(0x81, `42["bye"]`))
		x.hear(4)
	}},
	{"upgrade that is no good", func(d *door) {
		q := d.enter()
		d.ws(q, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13").conn.Close()
		d.ws(q, strings.Replace(upgradeHeaders, "13", "12", 1)).conn.Close()
		x := d.ws(q)
		x.say(frame(0x81, "4x"))
		x.hear(4)
		d.do("POST", q, `42["say",1]`)
		d.do("GET", q, "")
	}},
	{"upgrade with data behind it", func(d *door) {
		q := d.enter()
		x := d.begin(d.addr, "GET", wsQuery(q), frame(0x81, "2probe"), upgradeHeaders, "Content-Length: 0")
		head, _ := x.end()
		d.note("%s", head)
		x.hear(2 + len("3probe"))
	}},
	{"client gone after the upgrade", func(d *door) {
		q := d.enter()
		x := d.ws(q)
		x.say(frame(0x81, "2probe"), frame(0x81, "5"))
		x.hear(2 + len("3probe"))
		x.say(frame(0x81, `42["say",1]`))
		x.hear(2 + len(`42["said",1]`))
		before := d.n.Stats().Engine
		x.conn.Close()
		d.ended(before)
	}},
}

// TestForwardedIsTheSame has each case happen on the node that has the session, and on another, and compares all that a client
// can see, to the byte.
func TestForwardedIsTheSame(t *testing.T) {
	for _, carrier := range []bool{false, true} {
		t.Run(map[bool]string{false: "over links", true: "over the medium"}[carrier], func(t *testing.T) {
			var arrived atomic.Int64
			slow := make(chan struct{})
			setup := func(_ int, srv *atoll.Server) { sameSetup(srv, slow) }
			f := newFleet(t, &fleetOptions{nodes: 2, carrier: carrier, setup: setup, server: func(o *atoll.Options) {
				o.Engine = engine.Options{
					MaxPayload: 100_000,
					CORS:       &engine.CORS{Origins: []string{"https://app.test"}, Credentials: true, ExposedHeaders: []string{"X-Note"}},
					Headers: func(h http.Header, _ *http.Request, _ bool) {
						arrived.Add(1)
						h.Add("X-Note", "here")
					},
				}
				o.Forward.Hold = -1
			}})
			for _, c := range sameCases {
				t.Run(c.name, func(t *testing.T) {
					owner := f.nodes[0].http.Listener.Addr().String()
					direct := &door{TB: t, addr: owner, owner: owner, n: f.nodes[0].Server, arrived: &arrived, slow: slow}
					other := &door{TB: t, addr: f.nodes[1].http.Listener.Addr().String(), owner: owner, n: f.nodes[0].Server, arrived: &arrived, slow: slow}
					c.do(direct)
					c.do(other)
					got, want := anonymous(other.lines), anonymous(direct.lines)
					if got != want {
						t.Errorf("got\n%s\nwant, as on the session's own node,\n%s", got, want)
					}
				})
			}
			if s := f.nodes[1].Stats().Forward; s.Out == 0 || s.Failed != 0 {
				t.Errorf("got %+v, want requests forwarded, and none that failed", s)
			}
		})
	}
}

func sameSetup(srv *atoll.Server, slow <-chan struct{}) {
	echoes(0, srv)
	ns := srv.Of("/")
	ns.Handle("bye", func(_ context.Context, s *atoll.Socket, _ *atoll.Event) error {
		s.Disconnect(true)
		return nil
	})
	atoll.On(ns, "text", func(ctx context.Context, s *atoll.Socket, text string) error { return s.Emit(ctx, "text", text) })
	ns.Handle("large", func(ctx context.Context, s *atoll.Socket, _ *atoll.Event) error {
		return s.Emit(ctx, "large", strings.Repeat("x", 700_000))
	})
	ns.Handle("slow", func(ctx context.Context, s *atoll.Socket, _ *atoll.Event) error {
		<-slow
		return s.Emit(ctx, "done")
	})
}

var idPattern = regexp.MustCompile(`sid=[\w-]{20}|"sid":"[\w-]{20}"`)

func anonymous(lines []string) string {
	for i := range lines {
		lines[i] = idPattern.ReplaceAllString(lines[i], "sid")
	}
	return strings.Join(lines, "\n")
}
