//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// A goNode is an Atoll node in this process.
type goNode struct {
	name string
	srv  *atoll.Server
	node *cluster.Node
	bus  cluster.Bus
	url  string
	told chan string // server-side events
}

// A greeting is the auth payload of the clients.
type greeting struct {
	Rooms []string `json:"rooms"`
	Data  any      `json:"data"`
}

// startNode starts an Atoll node, which ends with t.
func startNode(t testing.TB, name string, bus cluster.Bus, namespaces ...string) *goNode {
	t.Helper()
	n := &goNode{name: name, bus: bus, told: make(chan string, 100)}
	var err error
	n.node, err = cluster.Join(t.Context(), n.bus, &cluster.Options{Name: name, Heartbeat: 200 * time.Millisecond, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.node.Close() })
	n.srv = atoll.NewServer(&atoll.Options{Cluster: n.node, Logger: quiet})
	web := httptest.NewServer(n.srv)
	n.url = web.URL
	t.Cleanup(func() {
		n.srv.Close()
		web.Close()
	})
	for _, name := range append([]string{"/"}, namespaces...) {
		ns := n.srv.Of(name)
		ns.OnConnect(func(_ context.Context, s *atoll.Socket) error {
			var g greeting
			if err := s.Auth(&g); err != nil {
				return err
			}
			s.Join(g.Rooms...)
			s.SetData(g.Data)
			return nil
		})
		ns.HandleServer("note", func(_ context.Context, e *atoll.ServerEvent) error {
			n.told <- "note(" + argsText(e.Args) + ")"
			return nil
		})
		ns.HandleServer("question", func(_ context.Context, e *atoll.ServerEvent) error {
			n.told <- "question(" + argsText(e.Args) + ")"
			return e.Reply(map[string]any{"from": n.name})
		})
	}
	return n
}

// argsText writes arguments as reports do.
func argsText(a event.Args) string {
	var s string
	for i := range a.Len() {
		if i > 0 {
			s += ", "
		}
		s += argText(a, i)
	}
	return s
}

func argText(a event.Args, i int) string {
	var v any
	if err := json.Unmarshal(a.Raw(i), &v); err != nil {
		return fmt.Sprintf("%v in %q", err, a.Raw(i))
	}
	return text(attach(v, a.Attachments()))
}

// attach puts attachments where their placeholders are.
func attach(v any, attachments [][]byte) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = attach(x[i], attachments)
		}
	case map[string]any:
		if x["_placeholder"] == true {
			return attachments[int(x["num"].(float64))]
		}
		for k := range x {
			x[k] = attach(x[k], attachments)
		}
	}
	return v
}
