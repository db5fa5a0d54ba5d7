package demo

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryHoldsEachOnceInOrder(t *testing.T) {
	var m memory
	for i := range uint64(3) {
		for range 2 {
			m.add(Message{Tab: "a", Seq: i + 1, At: int64(i)})
		}
	}
	m.add(Message{Tab: "b", Seq: 9, At: 1})
	m.add(Message{Tab: "b", Seq: 8, At: 1}) // came late, by way of another node
	var got []string
	for _, o := range m.last(50) {
		got = append(got, fmt.Sprint(o.Tab, o.Seq))
	}
	if want := []string{"a1", "a2", "b8", "b9", "a3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := m.last(2); len(got) != 2 {
		t.Errorf("the last 2: got %d messages", len(got))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m memory
		for i := range uint64(3 * remembers) {
			m.add(Message{Tab: "a", Seq: i})
		}
		time.Sleep(recently)
		m.add(Message{Tab: "a", Seq: 5000})
		if got := len(m.last(10_000)); got > remembers {
			t.Errorf("got %d messages, want at most %d", got, remembers)
		}
		if got := m.since(time.Now().Add(-recently/2), remembers); len(got) != 1 || got[0].Seq != 5000 {
			t.Errorf("since then: got %v, want the one that came since", got)
		}
	})
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"": "?", "  Ada \n Lovelace ": "Ada Lovelace", "\x00\x1b[31mred": "[31mred",
		"abcdefghijklmnopqrstuvwxyz": "abcdefghijklmnopqrstuvwx", "Ünï 🐢": "Ünï 🐢", "\u202eevil": "evil",
	} {
		if got := clean(in, maxName); got != want {
			t.Errorf("clean(%q): got %q, want %q", in, got, want)
		}
	}
	for tab, want := range map[string]bool{"": false, "aZ09-_": true, "a b": false, "<b>": false, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": false} {
		if got := validTab(tab); got != want {
			t.Errorf("validTab(%q): got %v, want %v", tab, got, want)
		}
	}
}
