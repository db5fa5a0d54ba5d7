package main

import (
	"net/http"
	"strings"

	"github.com/atollhq/atoll/engine"
)

// corsOf is what --cors-origin and --cors-credentials say.
func corsOf(origins []string, credentials bool) (*engine.CORS, error) {
	if len(origins) == 0 {
		if credentials {
			return nil, usagef("--cors-credentials needs --cors-origin: it is for pages of other origins")
		}
		return nil, nil
	}
	return &engine.CORS{Origins: origins, Credentials: credentials}, nil
}

// cookieOf is what --cookie says: a name, and attributes as in Set-Cookie.
func cookieOf(flag string) (*http.Cookie, error) {
	if flag == "" {
		return nil, nil
	}
	name, attributes, _ := strings.Cut(flag, ";")
	c, err := http.ParseSetCookie(strings.TrimSpace(name) + "=id;" + attributes)
	if err != nil || strings.Contains(name, "=") || len(c.Unparsed) > 0 {
		return nil, usagef(`--cookie %q: write a name, and attributes as in Set-Cookie, for instance "io; SameSite=None; Secure"`, flag)
	}
	return c, nil
}
