package httpemit_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
	"github.com/atollhq/atoll/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a-token-of-the-tests"

const jsonType, linesType = "application/json", "application/x-ndjson"

// post sends body and returns the status and what came.
func post(t *testing.T, h http.Handler, contentType, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/emit", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// A world is a cluster of two nodes, a handler, and what its clients have heard.
type world struct {
	nodes []*atolltest.Node
	hub   *membus.Hub
	h     *httpemit.Handler
	heard chan string
}

func newWorld(t *testing.T, o *httpemit.Options) *world {
	t.Helper()
	w := &world{hub: &membus.Hub{}, heard: make(chan string, 100)}
	w.nodes = atolltest.Cluster(t, w.hub, 2, func(name string, srv *atoll.Server) {
		for _, nsp := range []string{"/", "/chat"} {
			ns := srv.Of(nsp)
			ns.OnConnect(func(_ context.Context, s *atoll.Socket) error {
				var auth struct{ Rooms []string }
				if err := s.Auth(&auth); err != nil {
					return err
				}
				s.SetData(map[string]any{"rooms": len(auth.Rooms)})
				s.Join(auth.Rooms...)
				return nil
			})
			atoll.OnServer(ns, "reload", func(_ context.Context, what string) error {
				w.heard <- name + ": reload " + what
				return nil
			})
			atoll.AnswerServer(ns, "name", func(context.Context, event.None) (string, error) { return name, nil })
		}
	})
	bus := membus.New(w.hub, &membus.Options{Name: "emitter"})
	t.Cleanup(func() { bus.Close() })
	em, err := emitter.Connect(t.Context(), bus, &emitter.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { em.Close() })
	if o == nil {
		o = &httpemit.Options{}
	}
	o.Tokens = []string{"another-token-an-old-one", token}
	if w.h, err = httpemit.New(em, o); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) dial(t *testing.T, node int, nsp, name string, rooms ...string) *client.Socket {
	t.Helper()
	s := w.nodes[node].New(t, nsp, &client.Options{Auth: map[string]any{"rooms": rooms}, DisableReconnect: true})
	s.OnAny(func(_ context.Context, e *client.Event) error {
		w.heard <- name + ": " + e.Name + string(e.Args.JSON())
		if e.WantsReply() && e.Name == "who" {
			return e.Reply(name, []byte(name))
		}
		return nil
	})
	s.OnDisconnect(func(cause *client.DisconnectError) { w.heard <- name + ": " + cause.Reason })
	if err := s.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// wants waits until all is quiet, and compares what was heard, in any order.
func (w *world) wants(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	left := make(map[string]int)
	for _, s := range want {
		left[s]++
	}
	for len(w.heard) > 0 {
		s := <-w.heard
		if left[s]--; left[s] < 0 {
			t.Errorf("got %s, which is too much", s)
		}
	}
	for s, n := range left {
		if n > 0 {
			t.Errorf("got no %s, want it", s)
		}
	}
}

func TestOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := w.dial(t, 0, "/", "a", "red")
		w.dial(t, 1, "/", "b", "red", "blue")
		w.dial(t, 1, "/chat", "c", "red")
		for _, c := range []struct {
			body, res string
			heard     []string
		}{
			{`{"event":"x"}`, `{"ok":true}`, []string{`a: x[]`, `b: x[]`}},
			{`{"event":"x","args":[1.50,"ü",{"z":1,"a":null}],"rooms":["red"],"except":"blue"}`, `{"ok":true}`, []string{`a: x[1.50,"ü",{"z":1,"a":null}]`}},
			{`{"nsp":"chat","event":"x","args":[],"volatile":true,"compress":false}`, `{"ok":true}`, []string{`c: x[]`}},
			{`{"rooms":"blue","event":"x","args":[{"$base64":"AAEC"},{"a":[{ "$base64" : "" }]}]}`, `{"ok":true}`,
				[]string{`b: x[{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]`}},
			{`{"rooms":"blue","event":"x","args":[{"\u0024base64":"AAEC"}]}`, `{"ok":true}`, []string{`b: x[{"\u0024base64":"AAEC"}]`}},
			{`{"rooms":"blue","event":"who","ask":true}`, `{"ok":true,"answers":[["b",{"$base64":"Yg=="}]]}`, []string{`b: who[]`}},
			{`{"rooms":"nobody","event":"who","ask":true}`, `{"ok":true,"answers":[]}`, nil},
			{`{"event":"reload","args":["all"],"server":true}`, `{"ok":true}`, []string{"node1: reload all", "node2: reload all"}},
			{`{"rooms":"red","join":"green"}`, `{"ok":true}`, nil},
			{`{"rooms":"green","event":"x"}`, `{"ok":true}`, []string{`a: x[]`, `b: x[]`}},
			{`{"rooms":"blue","leave":["green","red"]}`, `{"ok":true}`, nil},
			{`{"query":"count","rooms":["red","green"]}`, `{"ok":true,"count":1}`, nil},
			{`{"query":"sockets","rooms":"red","timeoutMs":500}`,
				`{"ok":true,"sockets":[{"id":"` + a.ID() + `","node":"` + w.nodes[0].Cluster.ID() + `","rooms":["` + a.ID() + `","red","green"],"data":{"rooms":1}}]}`, nil},
			{`{"rooms":"blue","disconnect":true,"close":true}`, `{"ok":true}`, []string{"b: io server disconnect"}},
			{`{"rooms":"red","disconnect":true}`, `{"ok":true}`, []string{"a: io server disconnect"}},
			{`{"query":"rooms"}`, `{"ok":true,"rooms":[]}`, nil},
		} {
			code, got := post(t, w.h, jsonType, c.body)
			if code != 200 || got != c.res {
				t.Errorf("%s: got %d %s, want 200 %s", c.body, code, got, c.res)
			}
			w.wants(t, c.heard...)
		}
		code, got := post(t, w.h, jsonType, `{"event":"name","server":true,"ask":true}`)
		if code != 200 || got != `{"ok":true,"answers":[["node1"],["node2"]]}` && got != `{"ok":true,"answers":[["node2"],["node1"]]}` {
			t.Errorf("got %d %s, want the names of both nodes", code, got)
		}
	})
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &httpemit.Options{MaxBatch: 3, MaxBody: 1000})
		w.dial(t, 0, "/", "a")
		for _, c := range []struct {
			kind, body string
			code       int
			res        string
			heard      []string
		}{
			{jsonType, ` [{"event":"x"},{"event":"y"} ] `, 200, `{"ok":true,"results":[{"ok":true},{"ok":true}]}`, []string{"a: x[]", "a: y[]"}},
			{linesType, "{\"event\":\"x\"}\n\n  {\"event\":\"y\"}\r\n", 200, `{"ok":true,"results":[{"ok":true},{"ok":true}]}`, []string{"a: x[]", "a: y[]"}},
			{jsonType, `[{"event":"x"},{"evnt":"y"},{"query":"count"}]`, 207,
				`{"ok":false,"results":[{"ok":true},{"ok":false,"code":"invalid","error":"json: unknown field \"evnt\""},{"ok":true,"count":1}]}`, []string{"a: x[]"}},
			{linesType, "{\"event\":\"x\"}\n{", 207,
				`{"ok":false,"results":[{"ok":true},{"ok":false,"code":"invalid","error":"not JSON: `, []string{"a: x[]"}},
			{jsonType, `[{"event":"x"},{"event":"x"},{"event":"x"},{"event":"x"}]`, 400, `{"ok":false,"code":"invalid","error":"a request may have 3 operations"}`, nil},
			{linesType, strings.Repeat("{\"event\":\"x\"}\n", 4), 400, `{"ok":false,"code":"invalid","error":"a request may have 3 operations"}`, nil},
			{jsonType, `{"event":"` + strings.Repeat("x", 1000) + `"}`, 413, `{"ok":false,"code":"too_large","error":"a request may have 1000 bytes"}`, nil},
			{jsonType, ` `, 400, `{"ok":false,"code":"invalid","error":"there is no operation in the request"}`, nil},
			{jsonType, `[]`, 400, `{"ok":false,"code":"invalid","error":"there is no operation in the request"}`, nil},
			{linesType, "\n", 400, `{"ok":false,"code":"invalid","error":"there is no operation in the request"}`, nil},
			{jsonType, `{"event":"x"} {"event":"y"}`, 400, `{"ok":false,"code":"invalid","error":"not JSON: there is more behind`, nil},
		} {
			code, got := post(t, w.h, c.kind, c.body)
			if code != c.code || !strings.HasPrefix(got, c.res) || strings.HasSuffix(c.res, "}") && got != c.res {
				t.Errorf("%s: got %d %s, want %d %s", c.body, code, got, c.code, c.res)
			}
			w.wants(t, c.heard...)
		}
	})
}

func TestInvalid(t *testing.T) {
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`x`:                            "not JSON",
		`"x"`:                          "an operation is an object",
		`{}`:                           "says not what to do",
		`{"rooms":["a"]}`:              "says not what to do",
		`{"disconnect":false}`:         "says not what to do",
		`{"event":"x","join":"a"}`:     "does one thing",
		`{"event":""}`:                 "empty name",
		`{"event":"connect"}`:          "reserved",
		`{"event":7}`:                  `the field "event" is a number`,
		`{"event":"x","room":"lobby"}`: `unknown field "room"`,
		`{"event":"x","rooms":[]}`:     "leave the field out",
		`{"event":"x","rooms":[""]}`:   "empty name",
		`{"event":"x","rooms":[7]}`:    "an array of texts",
		`{"event":"x","args":{}}`:      "args is the array",
		`{"event":"x","server":true,"rooms":"a"}`:                   "do not go with",
		`{"join":"a","args":[]}`:                                    `go with "event"`,
		`{"join":"a","ask":true}`:                                   `go with "event"`,
		`{"join":"a","close":true}`:                                 `goes with "disconnect"`,
		`{"query":"everything"}`:                                    `"count", "sockets" or "rooms"`,
		`{"query":"rooms","rooms":"a"}`:                             "all rooms",
		`{"event":"x","timeoutMs":1}`:                               "timeoutMs",
		`{"query":"count","timeoutMs":0}`:                           "above 0",
		`{"query":"count","timeoutMs":1e400}`:                       "timeoutMs",
		`{"event":"x","args":[{"$base64":"AAE"}]}`:                  "in the standard alphabet",
		`{"event":"x","args":[{"$base64":7}]}`:                      "in the standard alphabet",
		`{"event":"x","args":[{"$base64":"AA==","b":1}]}`:           "nothing else in the object",
		`{"event":"x","args":[{"b":1,"$base64":"AA=="}]}`:           "nothing else in the object",
		`{"event":"x","args":[{"_placeholder":true,"num":0}]}`:      "_placeholder",
		`{"event":"x","args":[` + strings.Repeat("[", 100000) + `}`: "not JSON",
		"{\"event\":\"\xff\"}":                                      "not JSON",
	} {
		code, got := post(t, h, jsonType, body)
		if code != 400 || !strings.Contains(unquoted(t, got), want) {
			t.Errorf("%.80s: got %d %s, want 400 and %s", body, code, got, want)
		}
	}
	code, got := post(t, h, jsonType, `{"query":"count"}`)
	if code != 501 || !strings.Contains(got, `"code":"tells_only"`) {
		t.Errorf("a question: got %d %s, want 501 tells_only", code, got)
	}
}

func unquoted(t *testing.T, body string) string {
	t.Helper()
	var r struct{ Error string }
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r.Error
}

func TestWhoIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dial(t, 0, "/", "a")
		code, got := post(t, w.h, jsonType, `{"event":"silence","ask":true,"timeoutMs":1500}`)
		if want := `"answers":[],"missing":{"nodes":["node1 (` + w.nodes[0].Cluster.ID() + `)"],"acks":1,"reason":"they did not answer in time"}`; code != 200 || !strings.Contains(got, want) {
			t.Errorf("got %d %s, want %s", code, got, want)
		}
		<-w.heard
		w.nodes[1].Bus.Freeze()
		code, got = post(t, w.h, jsonType, `{"query":"count","timeoutMs":1000}`)
		if want := `{"ok":true,"count":1,"missing":{"nodes":["node2 (` + w.nodes[1].Cluster.ID() + `)"],"reason":"they did not answer in time"}}`; code != 200 || got != want {
			t.Errorf("got %d %s, want %s", code, got, want)
		}
		w.nodes[1].Bus.Thaw()
	})
}

func TestTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &httpemit.Options{MaxAnswer: 50})
		w.dial(t, 0, "/", "abcdefghijklmnopqrstuvwxyz")
		for body, want := range map[string]string{
			`{"event":"who","ask":true}`: `{"ok":true,"answers":[],"truncated":true}`,
			`{"query":"sockets"}`:        `{"ok":true,"sockets":[],"truncated":true}`,
		} {
			if code, got := post(t, w.h, jsonType, body); code != 200 || got != want {
				t.Errorf("%s: got %d %s, want %s", body, code, got, want)
			}
		}
		<-w.heard
	})
}
