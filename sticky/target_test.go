package sticky

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// authorities are what may stand where a host is named, and whether we take it.
var authorities = []struct {
	text string
	ok   bool
	why  string // we refuse it as a target though net/http takes it
}{
	{"h", true, ""},
	{"H.Example", true, ""},
	{"h.", true, ""},
	{"a_b-c.~!$&'()*+,;=", true, ""},
	{"192.0.2.1", true, ""},
	{"999.0.2.1", true, ""},
	{"h:80", true, ""},
	{"h:", true, ""},
	{"h:099999", true, ""},
	{"[::1]", true, ""},
	{"[2001:DB8::1]:80", true, ""},
	{"[::ffff:192.0.2.1]:", true, ""},

	{"", false, "an absolute target names its host"},
	{":", false, "no name"},
	{":80", false, "no name"},
	{"@", false, "no name"},
	{"u@h", false, "users are not passed on"},
	{"u:p@h", false, "users are not passed on"},
	{"@h", false, "users are not passed on"},
	{"h@", false, "no name"},
	{"u@v@h", false, "users are not passed on"},
	{"u%zz@h", false, ""},
	{"h:x", false, ""},
	{"h:8x", false, ""},
	{"h:-1", false, ""},
	{"h:+1", false, ""},
	{"h: 1", false, ""},
	{"h:1:2", false, ""},
	{"h::", false, ""},
	{"::1", false, ""},
	{"h:%38", false, ""},
	{"[::1]x", false, ""},
	{"[::1]:x", false, ""},
	{"[::1]:1:2", false, ""},
	{"[::1]:%38", false, ""},
	{"[::1]]", false, ""},
	{"[[::1]]", false, ""},
	{"[::1", false, ""},
	{"[", false, ""},
	{"]", false, "no name of a host has brackets"},
	{"[]", false, ""},
	{"::1]", false, ""},
	{"h[::1]", false, ""},
	{"[h]", false, ""},
	{"[192.0.2.1]", false, ""},
	{"[::1%25eth0]", false, "a zone has no meaning for others"},
	{"[::1%25]", false, ""},
	{"[::1%eth0]", false, ""},
	{"[::1%25%zz]", false, ""},
	{"[%3a:1]", false, ""},
	{"[v1.a]", false, ""},
	{"h%", false, ""},
	{"0%0", false, ""},
	{"h%zz", false, ""},
	{"%68", false, ""},
	{"h%00", false, ""},
	{"h%2f", false, ""},
	{"h%25", false, "resolved by some only"},
	{"h%c3%a9", false, "resolved by some only"},
	{"h\xc3\xa9", false, "beyond ASCII"},
	{"h\xff", false, "beyond ASCII"},
	{"h\u2044i", false, "beyond ASCII"},
	{"h\uff0ei", false, "beyond ASCII"},
	{"h\x00", false, ""},
	{"h\x01", false, ""},
	{"h\ti", false, ""},
	{"h\x7f", false, ""},
	{"h\x80", false, "beyond ASCII"},
	{"h\\i", false, ""},
	{"h<i>", false, "not proper"},
	{"h\"i", false, "not proper"},
	{"h^i", false, ""},
	{"h`i", false, ""},
	{"h{i}", false, ""},
	{"h|i", false, ""},
}

// places are what may follow a host, and whether we take it.
var places = []struct {
	text string
	ok   bool
	why  string // we refuse it though net/http takes it
}{
	{"", true, ""},
	{"/", true, ""},
	{"//x", true, ""},
	{"?", true, ""},
	{"?a/b", true, ""},
	{"?a?b", true, ""},
	{"?%", true, ""},
	{"?%zz", true, ""},
	{"/x?%zz", true, ""},
	{"/%41%2f%00%ff", true, ""},
	{"/x:y@z", true, ""},
	{"/[%5b]", true, ""},
	{"/\xc3\xa9", true, ""},
	{"/\\\"<>^`{|}", true, ""},
	{"/x?\xff", true, ""},
	{"/%", false, ""},
	{"/%z", false, ""},
	{"/%0", false, ""},
	{"/x%zz?y", false, ""},
	{"/x#y", false, "a fragment is not for servers"},
	{"/x?y#z", false, "a fragment is not for servers"},
	{"#", false, ""},
	{"/x\x00", false, ""},
	{"/x\x1f", false, ""},
	{"/x\x7f", false, ""},
	{"/x?\t", false, ""},
	{"\\x", false, ""},
}

// goTakes returns a function that asks a server of net/http what it makes of a request, which is nil if it refuses.
func goTakes(t *testing.T) func(text string) *seenRequest {
	got := make(chan *seenRequest, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- &seenRequest{r.Method, r.RequestURI, r.Host, "", r.Header}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Config.DisableGeneralOptionsHandler = true
	srv.Start()
	t.Cleanup(srv.Close)
	return func(text string) *seenRequest {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		io.WriteString(c, text)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if resp.Body.Close(); resp.StatusCode == http.StatusOK {
			return <-got
		}
		return nil
	}
}

// What a server of net/http refuses as a target or a host, the front refuses; what it takes, the front takes or has
// a reason; and both understand the same.
func TestTargets(t *testing.T) {
	l, all := scripted(t)
	ask := goTakes(t)
	check := func(text string, ok bool, why string) {
		t.Helper()
		want := ask(text)
		got, out := play(t, l, all, text, 1<<10)
		switch {
		case ok && (len(got) != 1 || want == nil):
			t.Errorf("%q: the node got %d requests, want one; net/http takes it: %t; the client got %.60q", text, len(got), want != nil, out)
		case !ok && (len(got) != 0 || !strings.HasPrefix(out, "HTTP/1.1 400 ")):
			t.Errorf("%q: the node got %d requests, the client %.60q; want none, and 400", text, len(got), out)
		case !ok && want != nil && why == "":
			t.Errorf("%q: net/http takes it as %s of %s, we do not", text, want.uri, want.host)
		case ok:
			compare(t, text, got[0], want)
		}
	}
	const anyway = "a host that is no authority"
	for _, a := range authorities {
		check("GET http://"+a.text+"/x HTTP/1.1\r\nHost: "+a.text+"\r\n\r\n", a.ok, a.why)
		check("GET HTTPS://"+a.text+"?x HTTP/1.1\r\nHost: "+a.text+"\r\n\r\n", a.ok, a.why)
		check("GET http://"+a.text+" HTTP/1.0\r\n\r\n", a.ok, a.why)
		check("GET /x HTTP/1.1\r\nHost: "+a.text+"\r\n\r\n", a.ok || a.text == "", anyway)
		check("GET /x HTTP/1.0\r\nHost: "+a.text+"\r\n\r\n", a.ok || a.text == "", anyway)
	}
	for _, p := range places {
		check("GET http://h"+p.text+" HTTP/1.1\r\nHost: h\r\n\r\n", p.ok, p.why)
		if strings.HasPrefix(p.text, "/") {
			check("GET "+p.text+" HTTP/1.1\r\nHost: h\r\n\r\n", p.ok, p.why)
		}
	}
	for _, s := range []string{"", "h", "x:", "http:", "http:/x", "http:x", "http//h/x", "1http://h/x", ":http://h/x", "ftp://h/x", "http+x://h/x", "*", "?x", "**", "*/x"} {
		check("GET "+s+" HTTP/1.1\r\nHost: h\r\n\r\n", false, "another form")
	}
	check("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", true, "")
	check("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", true, "")
	check("OPTIONS ** HTTP/1.1\r\nHost: h\r\n\r\n", false, "")
}
