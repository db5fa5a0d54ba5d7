package forward

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/atollhq/atoll/adapter/membus"
)

// echo says what came.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	from, _ := From(r.Context())
	w.Header().Set("X-From", from)
	fmt.Fprintf(w, "%s %s %s %v %d %d", r.Method, r.RequestURI, r.Header.Get("X-Test"), err, len(b), r.ContentLength)
})

func TestForward(t *testing.T) {
	var hub membus.Hub
	a, b := newSite(t, &hub, "a", nil, echo), newSite(t, &hub, "b", nil, echo)
	know(t, a, b)
	for _, way := range []string{"carrier", "link"} {
		if way == "link" {
			linked(t, a, b)
		}
		status, body, h := get(t, a.url+"/at/b/x?y=z", http.Header{"X-Test": {"1"}})
		if want := "GET /at/b/x?y=z 1 <nil> 0 0"; status != 200 || body != want || h.Get("X-From") != "a" {
			t.Errorf("over the %s: got %d %q %v, want 200 %q", way, status, body, h, want)
		}
	}
	t.Logf("%+v\n%s", a.Stats(), a.logs)
}
