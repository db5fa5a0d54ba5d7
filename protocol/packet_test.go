package protocol_test

import (
	"strings"
	"testing"

	"github.com/atollhq/atoll/protocol"
)

func TestAppend(t *testing.T) {
	for _, e := range load[example](t, "packets.json") {
		if e.DecodeOnly {
			continue
		}
		p := e.packet(t)
		if got := string(p.Append([]byte("4"))); got != "4"+e.Text {
			t.Errorf("%s: got %s, want 4%s", e.Note, got, e.Text)
		}
		if got, want := string(p.AppendHeader(nil)), strings.TrimSuffix(e.Text, e.Data); got != want {
			t.Errorf("%s: got header %s, want %s", e.Note, got, want)
		}
	}
}

func TestAppendNamespaceDefault(t *testing.T) {
	p := protocol.Packet{Type: protocol.Event, ID: protocol.NoID, Data: []byte(`["a"]`)}
	if got, want := string(p.Append(nil)), `2["a"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSplitEvent(t *testing.T) {
	for _, e := range load[example](t, "packets.json") {
		if e.Event == nil {
			continue
		}
		name, args, n, err := protocol.SplitEvent([]byte(e.Data))
		if err != nil {
			t.Errorf("%s: %v", e.Note, err)
			continue
		}
		checkEvent(t, &e, name, args, n)
	}
}

func checkEvent(t *testing.T, e *example, name, args []byte, n int) {
	t.Helper()
	if got := string(name); got != *e.Event {
		t.Errorf("%s: got name %q, want %q", e.Note, got, *e.Event)
	}
	if n != len(e.Args) {
		t.Errorf("%s: got %d arguments, want %d", e.Note, n, len(e.Args))
	}
	squeeze := strings.NewReplacer(" ", "", "\t", "")
	if got, want := squeeze.Replace(string(args)), squeeze.Replace(strings.Join(e.Args, ",")); got != want {
		t.Errorf("%s: got arguments %s, want %s", e.Note, got, want)
	}
}

func TestSplitEventErrors(t *testing.T) {
	for _, data := range []string{"", "null", "{}", `"a"`, "[", "[]", "[true]", `["a"`, `["a",]`, `["a"] 1`, `["a",{]`} {
		if name, _, _, err := protocol.SplitEvent([]byte(data)); err == nil {
			t.Errorf("%s: got %q, want an error", data, name)
		}
	}
	// Reserved names are for the decoder to refuse: nodes of a cluster may tell each other what they like.
	if name, _, _, err := protocol.SplitEvent([]byte(`["disconnect"]`)); err != nil || string(name) != "disconnect" {
		t.Errorf("got %q, %v, want disconnect", name, err)
	}
}

func TestTypeString(t *testing.T) {
	if got, want := protocol.Type(9).String(), "type 9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
