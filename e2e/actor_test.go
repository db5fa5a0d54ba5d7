//go:build unix

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/emitter"
)

// who is a choice of sockets.
type who struct {
	nsp        string // if empty, "/"
	in, except []string
	volatile   bool
}

func (w who) namespace() string { return cmp.Or(w.nsp, "/") }

func (w who) object(more object) object {
	o := object{"nsp": w.namespace()}
	if w.in != nil {
		o["rooms"] = w.in
	}
	if w.except != nil {
		o["except"] = w.except
	}
	if w.volatile {
		o["flags"] = object{"volatile": true}
	}
	for k, v := range more {
		o[k] = v
	}
	return o
}

// An actor tells the cluster something: a node or an emitter, of either kind.
type actor interface {
	emit(t testing.TB, w who, event string, args ...any)
	join(t testing.TB, w who, rooms ...string)
	leave(t testing.TB, w who, rooms ...string)
	disconnect(t testing.TB, w who, all bool)
	serverEmit(t testing.TB, event string, args ...any)
}

// An asker is an actor that is a node.
type asker interface {
	actor
	askAll(t testing.TB, w who, event string, args ...any) []string
	fetch(t testing.TB, w who) []string
	serverAsk(t testing.TB, event string, args ...any) []string
}

// jsActor is a Node.js node, or the official emitter where the prefix of its commands says so.
type jsActor struct {
	*peer
	prefix string
}

func (a jsActor) emit(t testing.TB, w who, event string, args ...any) {
	t.Helper()
	a.do(t, a.prefix+"emit", w.object(object{"event": event, "args": args}))
}

func (a jsActor) join(t testing.TB, w who, rooms ...string) {
	t.Helper()
	a.do(t, a.prefix+"join", w.object(object{"names": rooms}))
}

func (a jsActor) leave(t testing.TB, w who, rooms ...string) {
	t.Helper()
	a.do(t, a.prefix+"leave", w.object(object{"names": rooms}))
}

func (a jsActor) disconnect(t testing.TB, w who, all bool) {
	t.Helper()
	a.do(t, a.prefix+"disconnect", w.object(object{"close": all}))
}

func (a jsActor) serverEmit(t testing.TB, event string, args ...any) {
	t.Helper()
	a.do(t, a.prefix+"serverEmit", object{"event": event, "args": args})
}

func (a jsActor) askAll(t testing.TB, w who, event string, args ...any) []string {
	t.Helper()
	return list(t, a.do(t, "emitAck", w.object(object{"event": event, "args": args, "flags": object{"timeout": 5000}})))
}

func (a jsActor) serverAsk(t testing.TB, event string, args ...any) []string {
	t.Helper()
	return list(t, a.do(t, "serverAsk", object{"event": event, "args": args}))
}

func (a jsActor) fetch(t testing.TB, w who) []string {
	t.Helper()
	var sockets []struct {
		ID        string
		Rooms     []any
		Data      json.RawMessage
		Handshake bool
	}
	if err := json.Unmarshal(a.do(t, "fetch", w.object(nil)), &sockets); err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, x := range sockets {
		if !x.Handshake {
			t.Errorf("socket %s: got no handshake", x.ID)
		}
		s = append(s, describe(x.ID, x.Rooms, string(x.Data)))
	}
	slices.Sort(s)
	return s
}

func describe(id string, rooms []any, data string) string {
	var names []string
	for _, r := range rooms {
		names = append(names, fmt.Sprint(r))
	}
	slices.Sort(names)
	return fmt.Sprint(id, " ", names, " ", data)
}

// list sorts the texts of the elements of a JSON array.
func list(t testing.TB, b []byte) []string {
	t.Helper()
	var v []json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	var s []string
	for _, x := range v {
		s = append(s, string(x))
	}
	slices.Sort(s)
	return s
}

// goActor is an Atoll node.
type goActor struct{ *goNode }

func (a goActor) target(w who) atoll.Target {
	t := a.srv.Of(w.namespace()).To(w.in...).Except(w.except...)
	if w.volatile {
		t = t.Volatile()
	}
	return t
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a goActor) emit(t testing.TB, w who, event string, args ...any) {
	t.Helper()
	check(t, a.target(w).Emit(t.Context(), event, args...))
}

func (a goActor) join(t testing.TB, w who, rooms ...string) {
	t.Helper()
	check(t, a.target(w).Join(t.Context(), rooms...))
}

func (a goActor) leave(t testing.TB, w who, rooms ...string) {
	t.Helper()
	check(t, a.target(w).Leave(t.Context(), rooms...))
}

func (a goActor) disconnect(t testing.TB, w who, all bool) {
	t.Helper()
	check(t, a.target(w).Disconnect(t.Context(), all))
}

func (a goActor) serverEmit(t testing.TB, event string, args ...any) {
	t.Helper()
	check(t, a.srv.Of("/").ServerSide().Emit(t.Context(), event, args...))
}

func (a goActor) askAll(t testing.TB, w who, event string, args ...any) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var s []string
	for x, err := range a.target(w).AskAll(ctx, event, args...) {
		check(t, err)
		s = append(s, argsText(x))
	}
	slices.Sort(s)
	return s
}

func (a goActor) serverAsk(t testing.TB, event string, args ...any) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var s []string
	for x, err := range a.srv.Of("/").ServerSide().AskAll(ctx, event, args...) {
		check(t, err)
		s = append(s, argsText(x))
	}
	slices.Sort(s)
	return s
}

func (a goActor) fetch(t testing.TB, w who) []string {
	t.Helper()
	var s []string
	for x, err := range a.target(w).Fetch(t.Context()) {
		check(t, err)
		var data any
		check(t, x.Data(&data))
		var h map[string]any
		if err := x.Handshake(&h); err != nil || len(h) == 0 {
			t.Errorf("socket %s: got handshake %v and error %v, want one", x.ID, h, err)
		}
		var rooms []any
		for _, r := range x.Rooms {
			rooms = append(rooms, r)
		}
		s = append(s, describe(x.ID, rooms, text(data)))
	}
	slices.Sort(s)
	return s
}

// goEmitter is our emitter.
type goEmitter struct{ *emitter.Emitter }

func (a goEmitter) target(w who) *emitter.Emitter {
	e := a.Of(w.namespace()).To(w.in...).Except(w.except...)
	if w.volatile {
		e = e.Volatile()
	}
	return e
}

func (a goEmitter) emit(t testing.TB, w who, event string, args ...any) {
	t.Helper()
	check(t, a.target(w).Emit(t.Context(), event, args...))
}

func (a goEmitter) join(t testing.TB, w who, rooms ...string) {
	t.Helper()
	check(t, a.target(w).Join(t.Context(), rooms...))
}

func (a goEmitter) leave(t testing.TB, w who, rooms ...string) {
	t.Helper()
	check(t, a.target(w).Leave(t.Context(), rooms...))
}

func (a goEmitter) disconnect(t testing.TB, w who, all bool) {
	t.Helper()
	check(t, a.target(w).Disconnect(t.Context(), all))
}

func (a goEmitter) serverEmit(t testing.TB, event string, args ...any) {
	t.Helper()
	check(t, a.ServerSideEmit(t.Context(), event, args...))
}
