//go:build unix

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/pgtest"
)

func init() { media = append(media, postgres) }

// postgres is @socket.io/postgres-adapter. Its emitter stands apart: the messages of @socket.io/postgres-emitter
// 0.1.1 do not reach Node.js nodes with the adapter 0.5, see TestPostgresEmitter.
var postgres = medium{"postgres", func(t testing.TB) *place {
	server := pgtest.Start(t)
	url := server.URL(server.Database(t))
	return &place{
		bus: func(t testing.TB) cluster.Bus {
			pool, err := pgxpool.New(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			bus := pgbus.New(pool, &pgbus.Options{Logger: quiet})
			t.Cleanup(func() {
				bus.Close()
				pool.Close()
			})
			return bus
		},
		adapter: object{"kind": "postgres", "url": url}, late: true,
	}
}}

// TestPostgresEmitter has @socket.io/postgres-emitter reach the clients of Atoll nodes. It does not say in
// which namespace its messages are, so Node.js nodes drop them; Atoll nodes know it by the channel.
func TestPostgresEmitter(t *testing.T) {
	w := startWorld(t, postgres)
	w.clients.do(t, "emitter.open", object{"adapter": w.adapter})
	act := jsActor{w.clients, "emitter."}
	ours := []string{"a1", "b1", "b2"}
	nested := object{"list": []any{[]byte{0, 255, 1}}, "n": 1.5}
	// The emitter publishes over a pool of connections, so two calls of it may change places.
	only := func(names []string, event string) {
		t.Helper()
		for _, name := range names {
			eventually(t, "an event at "+name, func() bool { return len(w.clients.of(name)) > 0 })
		}
		wantOnly(t, w.barrier(t, act, ours...), names, event)
	}
	members := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d members", n), func() bool {
			return len(goActor{w.a}.fetch(t, who{in: []string{"new"}})) == n
		})
	}
	for _, c := range []struct {
		to   who
		args []any
		want string
	}{
		{who{}, []any{"text", 1, nil, object{"a": []any{1, "b"}}}, "a1 b1 b2"},
		{who{in: []string{"red"}}, []any{1}, "a1 b1"},
		{who{in: []string{"red", "blue"}, except: []string{"x y#*?"}}, []any{3}, "b1 b2"},
		{who{in: []string{w.sids["b2"]}}, []any{"private"}, "b2"},
		{who{in: []string{"blue"}}, []any{[]byte("bytes"), nested}, "b1 b2"},
		{who{}, []any{strings.Repeat("long ", 40_000), make([]byte, 100_000)}, "a1 b1 b2"},
	} {
		act.emit(t, c.to, "e", c.args...)
		only(strings.Fields(c.want), "e("+text(c.args...)+")")
	}
	act.join(t, who{in: []string{"blue"}}, "new")
	members(2)
	act.emit(t, who{in: []string{"new"}}, "in")
	only([]string{"b1", "b2"}, "in()")
	act.leave(t, who{in: []string{w.sids["b1"]}}, "new")
	members(1)
	act.emit(t, who{in: []string{"new"}}, "in")
	only([]string{"b2"}, "in()")
	act.serverEmit(t, "note", "x")
	for _, n := range []*goNode{w.a, w.b} {
		if got, want := <-n.told, "note("+text("x")+")"; got != want {
			t.Errorf("node %s: got %s, want %s", n.name, got, want)
		}
	}
	act.disconnect(t, who{in: []string{w.sids["b2"]}}, false)
	eventually(t, "the disconnect", func() bool {
		return slices.Contains(w.clients.of("b2"), "disconnect: io server disconnect")
	})
}
