package sticky

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	hiding = "POST /x HTTP/1.1\r\nHost: h\r\n"
	hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
)

// smugglings are what one server could take for another number of requests than the next, or for others. A case
// is refused with the given status and the connection ends, or, where that is 200, the node gets what want says:
// each request as method, target, host and body.
var smugglings = []struct {
	name, text string
	status     int
	want       string
}{
	{"ordinary", hiding + "Content-Length: 4\r\n\r\nbody" + hidden, 200, "POST /x h body; GET /hidden h "},
	{"chunked", hiding + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n" + hidden, 200, "POST /x h body; GET /hidden h "},
	{"chunked with all that is allowed", hiding + "transfer-encoding:\tCHUNKED \r\n\r\n0002;x=\"y\"\r\nbo\r\nA\r\ndy45678901\r\n000\r\nTrailer-A: b\r\n\r\n" + hidden, 200, "POST /x h body45678901; GET /hidden h "},
	{"empty line before", "\r\n" + hidden, 200, "GET /hidden h "},

	{"CL.TE", hiding + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"TE.CL", hiding + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"two lengths", hiding + "Content-Length: 1\r\nContent-Length: 80\r\n\r\n4" + hidden, 400, ""},
	{"one length twice", hiding + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n4" + hidden, 400, ""},
	{"list of lengths", hiding + "Content-Length: 1, 1\r\n\r\n4" + hidden, 400, ""},
	{"signed length", hiding + "Content-Length: +1\r\n\r\n4" + hidden, 400, ""},
	{"negative length", hiding + "Content-Length: -1\r\n\r\n" + hidden, 400, ""},
	{"hexadecimal length", hiding + "Content-Length: 0x1\r\n\r\n4" + hidden, 400, ""},
	{"empty length", hiding + "Content-Length:\r\n\r\n" + hidden, 400, ""},
	{"spaces in the length", hiding + "Content-Length: 1 0\r\n\r\n4" + hidden, 400, ""},
	{"huge length", hiding + "Content-Length: 99999999999999999999\r\n\r\n" + hidden, 400, ""},

	{"xchunked", hiding + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"chunked, chunked", hiding + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"two codings", hiding + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"identity", hiding + "Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nbody" + hidden, 400, ""},
	{"gzip, chunked", hiding + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"quoted coding", hiding + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"vertical tab", hiding + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"coding with a parameter", hiding + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"empty coding", hiding + "Transfer-Encoding:\r\nContent-Length: 4\r\n\r\nbody" + hidden, 400, ""},
	{"underscore", hiding + "Transfer_Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody" + hidden, 200, "POST /x h body; GET /hidden h "},
	{"coding in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},

	{"bare LF", "GET /x HTTP/1.1\nHost: h\n\n", 400, ""},
	{"bare LF in one line", hiding + "A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"bare CR", hiding + "A: b\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody" + hidden, 400, ""},
	{"LF CR", "GET /x HTTP/1.1\n\rHost: h\n\r\n\r", 400, ""},
	{"folded header", hiding + "A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody" + hidden, 400, ""},
	{"folded first header", "POST /x HTTP/1.1\r\n Host: h\r\n\r\n", 400, ""},
	{"space before the colon", hiding + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"no colon", hiding + "Transfer-Encoding\r\n\r\n" + hidden, 400, ""},
	{"empty name", hiding + ": chunked\r\n\r\n" + hidden, 400, ""},
	{"NUL in a name", hiding + "Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"NUL in a value", hiding + "A: b\x00c\r\nContent-Length: 4\r\n\r\nbody", 400, ""},
	{"DEL in a value", hiding + "A: b\x7fc\r\nContent-Length: 4\r\n\r\nbody", 400, ""},
	{"letters beyond ASCII in a name", hiding + "Tr\xc3\xa4nsfer: chunked\r\n\r\n", 400, ""},

	{"no size", hiding + "Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n" + hidden, 400, ""},
	{"size with 0x", hiding + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"signed size", hiding + "Transfer-Encoding: chunked\r\n\r\n+4\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"size with a space", hiding + "Transfer-Encoding: chunked\r\n\r\n4 \r\nbody\r\n0\r\n\r\n", 400, ""},
	{"size beyond 64 bits", hiding + "Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"negative by 64 bits", hiding + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"bare LF behind a size", hiding + "Transfer-Encoding: chunked\r\n\r\n4\nbody\r\n0\r\n\r\n", 400, ""},
	{"bare LF in an extension", hiding + "Transfer-Encoding: chunked\r\n\r\n4;a\nb\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"CR in an extension", hiding + "Transfer-Encoding: chunked\r\n\r\n4;a\rb\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"endless extension", hiding + "Transfer-Encoding: chunked\r\n\r\n4;" + strings.Repeat("a", 9000) + "\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"extension of 3 KB", hiding + "Transfer-Encoding: chunked\r\n\r\n4;" + strings.Repeat("a", 3000) + "\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"trailers of 3 KB", hiding + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a:\r\n", 750) + "\r\n" + hidden, 400, ""},
	{"length is announced as a trailer", hiding + "Transfer-Encoding: chunked\r\nTrailer: A, content-length\r\n\r\n0\r\nContent-Length: 60\r\n\r\n" + hidden, 400, ""},
	{"chunk longer than its size", hiding + "Transfer-Encoding: chunked\r\n\r\n3\r\nbody\r\n0\r\n\r\n", 400, ""},
	{"bare LF behind a chunk", hiding + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\n0\r\n\r\n", 400, ""},
	{"bare LF at the end", hiding + "Transfer-Encoding: chunked\r\n\r\n0\r\n\n" + hidden, 400, ""},
	{"a request as a trailer", hiding + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + hidden, 400, ""},
	{"trailer with a length", hiding + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 60\r\n\r\n" + hidden, 200, "POST /x h ; GET /hidden h "},

	{"no host", "GET /x HTTP/1.1\r\nA: b\r\n\r\n", 400, ""},
	{"two hosts", "GET /x HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, ""},
	{"one host twice", "GET /x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400, ""},
	{"host with a path", "GET /x HTTP/1.1\r\nHost: h/y\r\n\r\n", 400, ""},
	{"host with a user", "GET /x HTTP/1.1\r\nHost: i@h\r\n\r\n", 400, ""},
	{"host with a space", "GET /x HTTP/1.1\r\nHost: h i\r\n\r\n", 400, ""},
	{"absolute target", "GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n", 200, "GET /x?y h "},
	{"absolute target without a path", "GET http://h?y HTTP/1.1\r\nHost: h\r\n\r\n", 200, "GET /?y h "},
	{"absolute target of another host", "GET http://i/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"absolute target of another port", "GET http://h:81/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"absolute target with a user", "GET http://i@h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"absolute target with an empty user", "GET http://@h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"absolute target with a bad escape in the host", "0 http://0%0 HTTP/1.0\r\n0000:\r\n\r\n", 400, ""},
	{"absolute target with an escape in the host", "GET http://%68/x HTTP/1.1\r\nHost: %68\r\n\r\n", 400, ""},
	{"absolute target with a port that is no number", "GET http://h:x/x HTTP/1.1\r\nHost: h:x\r\n\r\n", 400, ""},
	{"absolute target with two ports", "GET http://h:1:2/x HTTP/1.1\r\nHost: h:1:2\r\n\r\n", 400, ""},
	{"absolute target without a host", "GET http:///x HTTP/1.1\r\nHost:\r\n\r\n", 400, ""},
	{"absolute target with a port only", "GET http://:80/x HTTP/1.1\r\nHost: :80\r\n\r\n", 400, ""},
	{"absolute target with an IPv6 address", "GET http://[2001:db8::1]:80/x HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", 200, "GET /x [2001:db8::1]:80 "},
	{"absolute target with a zone", "GET http://[fe80::1%25a]/x HTTP/1.1\r\nHost: [fe80::1%25a]\r\n\r\n", 400, ""},
	{"absolute target with an open bracket", "GET http://[::1/x HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, ""},
	{"absolute target with a name in brackets", "GET http://[h]/x HTTP/1.1\r\nHost: [h]\r\n\r\n", 400, ""},
	{"absolute target with a bad escape in the path", "GET http://h/%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"host with a bad escape", "GET /x HTTP/1.1\r\nHost: 0%0\r\n\r\n", 400, ""},
	{"host with a port that is no number", "GET /x HTTP/1.1\r\nHost: h:x\r\n\r\n", 400, ""},
	{"host with brackets in it", "GET /x HTTP/1.1\r\nHost: h[::1]\r\n\r\n", 400, ""},
	{"other scheme", "GET file://h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"target of CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n" + hidden, 405, ""},
	{"authority as target", "GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"asterisk", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"target with a fragment", "GET /x#y HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"target with a bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"target with a tab", "GET /x\ty HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"no target", "GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"two spaces", "GET  /x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"space at the end", "GET /x HTTP/1.1 \r\nHost: h\r\n\r\n", 400, ""},
	{"space at the beginning", " GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"tabs in the line", "GET\t/x\tHTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"two versions", "GET /x HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"improper method", "G(T /x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"no method", " /x HTTP/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"HTTP/0.9", "GET /x\r\n\r\n", 400, ""},
	{"HTTP/1.2", "GET /x HTTP/1.2\r\nHost: h\r\n\r\n", 505, ""},
	{"HTTP/2.0", "GET /x HTTP/2.0\r\nHost: h\r\n\r\n", 505, ""},
	{"http/1.1", "GET /x http/1.1\r\nHost: h\r\n\r\n", 400, ""},
	{"HTTP/01.1", "GET /x HTTP/01.1\r\nHost: h\r\n\r\n", 400, ""},
	{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ""},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400, ""},

	{"length is for one hop", hiding + "Connection: Content-Length\r\nContent-Length: 40\r\n\r\n" + hidden, 400, ""},
	{"coding is for one hop", hiding + "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""},
	{"host is for one hop", "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Host\r\n\r\n", 400, ""},
	{"upgrade to another protocol", "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" + hidden, 200, "GET /x h ; GET /hidden h "},
	{"body of a WebSocket handshake", "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 35\r\n\r\n" + hidden, 400, ""},
	{"unknown expectation", hiding + "Expect: 200-ok\r\nContent-Length: 4\r\n\r\nbody", 417, ""},
	{"too many headers", "GET /x HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 100) + "\r\n", 431, ""},
	{"header too long", "GET /x HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("b", 40<<10) + "\r\n\r\n", 431, ""},
	{"line too long", "GET /" + strings.Repeat("b", 10<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, ""},
	{"two sessions", "GET /socket.io/?sid=a&sid=b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 400, ""},
}

// The node is net/http's own reader.
func TestSmugglingForGo(t *testing.T) {
	l, all := scripted(t)
	for _, c := range smugglings {
		for _, piece := range []int{1 << 20, 1, 13} {
			got, out := play(t, l, all, c.text, piece)
			checkSmuggling(t, c.name, c.status, c.want, got, out)
		}
	}
}

func checkSmuggling(t *testing.T, name string, status int, want string, got []*seenRequest, out string) {
	t.Helper()
	var seen []string
	for _, r := range got {
		seen = append(seen, strings.Join([]string{r.method, r.uri, r.host, r.body}, " "))
	}
	if s := strings.Join(seen, "; "); s != want {
		t.Errorf("%s: the node got %q, want %q", name, s, want)
	}
	first, _, _ := strings.Cut(out, "\r\n")
	if code := strings.TrimPrefix(first, "HTTP/1.1 "); !strings.HasPrefix(code, strconv.Itoa(status)+" ") {
		t.Errorf("%s: the client got %q, want %d", name, first, status)
	}
	if status != 200 && strings.Count(out, "HTTP/1.1 ") != 1 {
		t.Errorf("%s: the client got %q, want one answer and the end", name, out)
	}
	if status != 200 && !strings.Contains(out, "\r\nConnection: close\r\n") {
		t.Errorf("%s: the client got %q, want Connection: close", name, out)
	}
}

// The same with real servers, of Go and of Node.js, behind real sockets.
func TestSmugglingForServers(t *testing.T) {
	for _, s := range []struct {
		name  string
		start func(t *testing.T) (url string)
	}{{"net-http", recordGo}, {"node", recordNode}} {
		t.Run(s.name, func(t *testing.T) {
			url := s.start(t)
			_, srv := balance(t, &Options{Health: Health{Path: "-"}}, url)
			for _, c := range smugglings {
				out := exchangeRaw(t, srv.URL, c.text, strings.Count(c.want, ";"))
				var seen []string
				_, list := do(t, "GET", url+"/recorded", "")
				if err := json.Unmarshal([]byte(list), &seen); err != nil {
					t.Fatal(err)
				}
				var got []*seenRequest
				for _, r := range seen {
					f := strings.SplitN(r, " ", 4)
					got = append(got, &seenRequest{method: f[0], uri: f[1], host: f[2], body: f[3]})
				}
				checkSmuggling(t, c.name, c.status, c.want, got, out)
			}
		})
	}
}

// exchangeRaw sends text and returns what comes back: up to an answer of status 400 and above and the end, or so many others and one more.
func exchangeRaw(t *testing.T, base, text string, others int) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, text) // the other end may have had enough
	var all strings.Builder
	br := bufio.NewReader(io.TeeReader(c, &all))
	for range others + 1 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Errorf("%.100q: %v after %q", text, err, all.String())
			break
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode >= 400 {
			io.Copy(io.Discard, br)
			break
		}
	}
	return all.String()
}

// A record is what a server was asked.
type record struct {
	mu  sync.Mutex
	all []string
}

func recordGo(t *testing.T) string {
	rec := record{all: []string{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		rec.mu.Lock()
		defer rec.mu.Unlock()
		if r.URL.Path == "/recorded" {
			json.NewEncoder(w).Encode(rec.all)
			rec.all = []string{}
			return
		}
		if err == nil {
			rec.all = append(rec.all, fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Host, body))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func recordNode(t *testing.T) string {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node.js is not installed")
	}
	cmd := exec.Command(path, "-e", `
let all = [];
const s = require("http").createServer((req, res) => {
  let body = "";
  req.on("data", d => body += d).on("end", () => {
    if (req.url == "/recorded") { res.end(JSON.stringify(all)); all = []; return; }
    all.push([req.method, req.url, req.headers.host, body].join(" "));
    res.end();
  });
}).on("upgrade", (req, sock) => { all.push("UPGRADE " + req.url + " x x"); sock.destroy(); });
s.listen(0, "127.0.0.1", () => console.log("http://127.0.0.1:" + s.address().port));
process.stdin.resume().on("end", () => process.exit());`)
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
