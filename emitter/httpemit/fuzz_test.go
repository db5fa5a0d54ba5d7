package httpemit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

// FuzzRequest checks that whatever is sent, the answer is JSON, and says whether it was done.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"event":"x","args":[1,{"$base64":"AAEC"},"ü"],"rooms":["a"],"except":"b"}`,
		`[{"join":"a"},{"leave":["a"]},{"disconnect":true,"close":true}]`,
		"{\"event\":\"x\"}\n{\"query\":\"count\"}\n", `{"$base64":{"$base64":"\u0041A=="}}`, `[[[[`, `{"event":"\ud800"}`,
		`{"event":"x","args":[{"a":{"$base64"`, `{"event":"x","args":[{"$base64":"AA=="},{"_placeholder" : true}]}`,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string, lines bool) {
		kind := jsonType
		if lines {
			kind = linesType
		}
		code, got := post(t, h, kind, body)
		var r struct {
			OK      *bool
			Code    string
			Results []struct{ OK *bool }
		}
		if err := json.Unmarshal([]byte(got), &r); err != nil || r.OK == nil || *r.OK != (code == 200) {
			t.Fatalf("got %d %s, want JSON that says whether it was done", code, got)
		}
		if code == 207 && len(r.Results) == 0 || strings.Contains(got, `"internal"`) || r.Code == "unavailable" {
			t.Fatalf("got %d %s", code, got)
		}
	})
}
