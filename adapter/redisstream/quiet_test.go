//go:build unix

package redisstream_test

import (
	"strings"
	"testing"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

// The stream forgets where a quiet namespace stands, when others are busy; with Advance it does not.
func TestQuietNamespace(t *testing.T) {
	b := open(t, redistest.Start(t), &redisstream.Options{Logger: quiet, MaxLen: 100})
	n, err := cluster.Join(t.Context(), b, &cluster.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, ns := range []string{"/", "/busy"} {
		if err := n.Open(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(ns, data string) {
		t.Helper()
		op := &cluster.Op{Kind: cluster.Emit, Namespace: ns, Data: []byte(`["` + data + `"]`)}
		if _, err := n.Keep(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	keep("/", "a")
	first := n.Position("/")
	for range 60 {
		for range 20 {
			keep("/busy", strings.Repeat("x", 1000))
		}
		if err := n.Advance(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	position := n.Position("/")
	keep("/", "missed")
	got := 0
	for op, err := range n.Since(t.Context(), "/", position) {
		if err != nil {
			t.Fatal(err)
		}
		if got++; string(op.Data) != `["missed"]` {
			t.Errorf("got %s, want what was missed", op.Data)
		}
	}
	if got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
	err = nil
	for _, err = range n.Since(t.Context(), "/", first) {
		break
	}
	if err == nil {
		t.Error("the log reaches back to the first event: the test tests nothing")
	}
}
