package engine

import (
	"net/http"
	"strconv"
	"strings"
)

// cookie fills in a template what the official server has by default.
func cookie(t *http.Cookie) *http.Cookie {
	c := *t
	c.HttpOnly = true
	if c.Name == "" {
		c.Name = "io"
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.SameSite == 0 {
		c.SameSite = http.SameSiteLaxMode
	}
	return &c
}

// A cookieTemplate is the Set-Cookie header of a handshake, around the session id.
type cookieTemplate struct{ before, after string }

// newCookieTemplate prepares c, in which every field has its meaning. The attributes come in
// the order in which the official server has them.
func newCookieTemplate(c *http.Cookie) cookieTemplate {
	var b strings.Builder
	attribute := func(name, value string) {
		b.WriteString("; " + name)
		if value != "" {
			b.WriteString("=" + value)
		}
	}
	switch {
	case c.MaxAge > 0:
		attribute("Max-Age", strconv.Itoa(c.MaxAge))
	case c.MaxAge < 0:
		attribute("Max-Age", "0")
	}
	if c.Domain != "" {
		attribute("Domain", c.Domain)
	}
	attribute("Path", c.Path)
	if !c.Expires.IsZero() {
		attribute("Expires", c.Expires.UTC().Format(http.TimeFormat))
	}
	if c.HttpOnly {
		attribute("HttpOnly", "")
	}
	if c.Secure {
		attribute("Secure", "")
	}
	if c.Partitioned {
		attribute("Partitioned", "")
	}
	switch c.SameSite {
	case http.SameSiteLaxMode:
		attribute("SameSite", "Lax")
	case http.SameSiteStrictMode:
		attribute("SameSite", "Strict")
	case http.SameSiteNoneMode:
		attribute("SameSite", "None")
	}
	return cookieTemplate{c.Name + "=", b.String()}
}

// header is the header for the session id.
func (t *cookieTemplate) header(id string) string { return t.before + id + t.after }
