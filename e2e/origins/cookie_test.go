package origins

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/atollhq/atoll/engine"
)

// cookies are options of the official server, what ours has for them, and how the answers differ:
// what stands behind the id with us, where that is another.
var cookies = []struct {
	official any
	ours     *http.Cookie
	differs  string
}{
	{false, nil, ""},
	{true, &http.Cookie{}, ""},
	{object{"name": "sid", "path": "/x"}, &http.Cookie{Name: "sid", Path: "/x"}, ""},
	{object{"sameSite": "none", "secure": true, "maxAge": 3600}, &http.Cookie{SameSite: http.SameSiteNoneMode, Secure: true, MaxAge: 3600}, ""},
	{object{"sameSite": "strict", "domain": "a.test"}, &http.Cookie{SameSite: http.SameSiteStrictMode, Domain: "a.test"}, ""},
	{object{"sameSite": false}, &http.Cookie{SameSite: http.SameSiteDefaultMode}, ""},
	{object{"maxAge": 0}, &http.Cookie{MaxAge: -1}, ""},
	{object{"partitioned": true, "secure": true, "sameSite": "none"}, &http.Cookie{Partitioned: true, Secure: true, SameSite: http.SameSiteNoneMode}, ""},
	{object{"httpOnly": false}, &http.Cookie{}, "; Path=/; HttpOnly; SameSite=Lax"},                     // no script needs it
	{object{"priority": "high"}, &http.Cookie{}, "; Path=/; HttpOnly; SameSite=Lax"},                    // of one browser only
	{object{"path": false}, &http.Cookie{}, "; Path=/; HttpOnly; SameSite=Lax"},                         // would be the path of the requests
	{object{"name": "io", "encode": nil}, &http.Cookie{Name: "io"}, "; Path=/; HttpOnly; SameSite=Lax"}, // ids need none
}

var cookieID = regexp.MustCompile(`^([^=]+)=([^;]*)(.*)$`)

func TestCookieIsThatOfTheOfficialServer(t *testing.T) {
	need(t)
	var options []any
	for _, c := range cookies {
		options = append(options, object{"cookie": c.official})
	}
	ports := official(t, options)
	for i, c := range cookies {
		port := ours(t, &engine.Options{Cookie: c.ours, Logger: quiet})
		for _, k := range questions {
			line := k.line
			if k.name == "preflight" {
				continue
			}
			want, got := ask(t, ports[i], line, k.headers).headers["Set-Cookie"], ask(t, port, line, k.headers).headers["Set-Cookie"]
			w, g := cookieID.FindStringSubmatch(want), cookieID.FindStringSubmatch(got)
			if (w == nil) != (g == nil) || strings.Contains(want+got, " & ") {
				t.Errorf("%v, %s: got %q, want %q", c.official, k.name, got, want)
				continue
			}
			if w == nil {
				if k.name == "handshake" && c.ours != nil {
					t.Errorf("%v: got no cookie", c.official)
				}
				continue
			}
			if len(g[2]) != 20 || len(w[2]) != 20 {
				t.Errorf("%v: got %q and %q, want the session id", c.official, got, want)
			}
			if c.differs != "" {
				w[3] = c.differs
			}
			if g[1] != w[1] || g[3] != w[3] {
				t.Errorf("%v: got %q, want %q", c.official, got, want)
			}
		}
	}
}
