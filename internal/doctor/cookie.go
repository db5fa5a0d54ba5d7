package doctor

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// A seenCookie is a cookie as it was set last.
type seenCookie struct {
	*http.Cookie
	line string // without the value
}

// note keeps what an answer tells of the deployment.
func (v *visit) note(a *answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hints.note(a)
	if v.seen == nil {
		v.seen = make(map[string]seenCookie)
	}
	for _, line := range a.header.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil || len(v.seen) > 20 {
			continue
		}
		v.seen[c.Name] = seenCookie{c, withoutValue(line)}
	}
}

// withoutValue is a Set-Cookie without what it sets: whoever reads a report need not know that, however it is quoted.
func withoutValue(line string) string {
	pair, attributes, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(pair, "=")
	if attributes = strings.TrimSpace(attributes); attributes != "" {
		attributes = "; " + attributes
	}
	return strings.TrimSpace(name) + "=…" + attributes
}

// cookies looks at the cookies that were set.
func (v *visit) cookies() {
	v.mu.Lock()
	seen := maps.Clone(v.seen)
	v.mu.Unlock()
	if len(seen) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(seen))
	var lines []string
	for _, n := range names {
		lines = append(lines, "Set-Cookie: "+seen[n].line)
	}
	v.fact("cookies", "%s", strings.Join(lines, " | "))
	if len(seen) > 1 {
		v.found("cookies-many", Note, "Several cookies are set", strings.Join(names, ", "),
			"If more than one decides which node a request goes to, they have to agree.", lines...)
	}
	for _, n := range names {
		v.cookie(seen[n])
	}
}

func (v *visit) cookie(c seenCookie) {
	line := "Set-Cookie: " + c.line
	if c.SameSite == http.SameSiteNoneMode && !c.Secure {
		v.found("cookie-none-insecure", Error, "The cookie "+c.Name+" has SameSite=None without Secure", line,
			"Browsers do not take such a cookie at all.", line)
	}
	if c.Secure && v.u.Scheme == "http" {
		v.found("cookie-secure-http", Warning, "The cookie "+c.Name+" is for https only, and this is http", line,
			"Browsers do not keep it, so what it decides is decided anew with each request.", line)
	}
	if !c.HttpOnly {
		v.found("cookie-script", Note, "Scripts can read the cookie "+c.Name, line,
			"No client needs to. HttpOnly keeps it from scripts that should not be on the page.", line)
	}
	if c.Path != "" && !strings.HasPrefix(v.u.Path, c.Path) {
		v.found("cookie-path", Error, "The cookie "+c.Name+" is for another path", fmt.Sprintf("Its path is %s, and the server is at %s.", c.Path, v.u.Path),
			"Browsers do not send it to the server, so what it decides is decided anew with each request.", line)
	}
	if v.o.Origin == "" || v.sameSite() || c.SameSite == http.SameSiteNoneMode {
		return
	}
	s, why := Note, "Browsers do not send it with requests of pages of another site. Nothing here needs it."
	if v.jar {
		s, why = Error, "Browsers do not send it with requests of pages of another site, so their sessions do not stay on their node: every poll fails."
	}
	v.found("cookie-samesite", s, "The cookie "+c.Name+" stays behind for pages of "+v.o.Origin, "It has no SameSite=None.", why, line)
}
