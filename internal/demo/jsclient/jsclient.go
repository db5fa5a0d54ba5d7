// Package jsclient holds the official JavaScript client, as its npm release has it:
// dist/socket.io.min.js of socket.io-client 4.8.4. Its licence (MIT) is beside it.
package jsclient

import (
	_ "embed"
	"net/http"
	"strings"
)

// Version is the version of the client.
const Version = "4.8.4"

//go:embed socket.io.min.js
var client string

// License is the client's licence.
//
//go:embed socket.io-client.LICENSE
var License string

// Serve serves the client as the official server does under /socket.io/socket.io.js.
func Serve(w http.ResponseWriter, r *http.Request) {
	const tag = `"` + Version + `"`
	h := w.Header()
	h.Set("Content-Type", "application/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=0")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", tag)
	if match := r.Header.Get("If-None-Match"); match == tag || match == "W/"+tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	// The map that the last line names is not served.
	script, _, _ := strings.Cut(client, "\n//# sourceMappingURL=")
	_, _ = w.Write([]byte(script + "\n"))
}
