package cluster

import (
	"fmt"
	"testing"
	"time"
)

// TestRoomOfSlots has one lane after the other be the only one that is kept: all together take no more room than one.
func TestRoomOfSlots(t *testing.T) {
	o := &outlet{}
	o.kept.limit = 256 << 10
	m := &Message{Kind: Tell}
	const lanes = 50
	for i := range lanes {
		for range 4000 {
			l, k, _ := o.number(fmt.Sprint("lane", i), sender{}, true)
			o.keep(l, k, m, []byte("x"))
			o.published(l, k)
		}
	}
	if len(o.lanes) != lanes {
		t.Fatalf("got %d lanes, want %d", len(o.lanes), lanes)
	}
	room, kept := 0, 0
	for _, l := range o.lanes {
		room += len(l.slots.ring)
		kept += int(l.slots.end - l.slots.first)
		for k := l.slots.first; k < l.slots.end; k++ {
			if x := l.slots.at(k); x == nil || x.state != gone && len(x.data) == 0 {
				t.Fatalf("lane %s: message %d of %d to %d is not there", l.name, k, l.slots.first, l.slots.end)
			}
		}
	}
	if room > 16<<10 || kept == 0 {
		t.Errorf("got room for %d messages, of which %d are kept; want some that are kept, and room for 16384 at most", room, kept)
	}
}

// TestRoomOfOutage has many messages wait behind a hole: the room that they took is given back.
func TestRoomOfOutage(t *testing.T) {
	h := &hold{limit: 1 << 20, put: func(work) bool { return true }, gap: func(string, uint64, uint64) {}, one: true}
	h.wake = make(chan struct{}, 1)
	h.lanes, h.named, h.open = make(map[laneID]*inlane), make(map[string][]*inlane), make(map[*inlane]struct{})
	h.contacts, h.listening = make(map[sender]*contact), make(map[string]time.Time)
	id := laneID{sender{"a", 1}, ""}
	h.accept(id, 1, work{}, true, false)
	for k := uint64(3); k <= 500; k++ {
		h.accept(id, k, work{}, true, false)
	}
	h.accept(id, 2, work{}, true, false)
	l := h.lanes[id]
	if l == nil || l.next != 501 {
		t.Fatalf("got lane %+v, want one that is at 501", l)
	}
	h.sweep(time.Now())
	if got := cap(l.held); got != 0 {
		t.Errorf("got room for %d held messages, want none", got)
	}
}

// TestManyAnswers has a question answered by more nodes than a cluster has.
func TestManyAnswers(t *testing.T) {
	q := &question{kind: Count, limit: 1 << 30, wake: make(chan struct{}, 1), named: make(map[string]*tally)}
	refusals := 0
	for i := range 3 * maxPeers {
		if q.put(Answer{Node: fmt.Sprint(i), First: true}, 1, 1) == refused {
			refusals++
		}
	}
	if got, want := len(q.named), 2*maxPeers; got != want || refusals != maxPeers {
		t.Errorf("got %d nodes and %d refusals, want %d and %d", got, refusals, want, maxPeers)
	}
}

// TestLast has offsets come while nothing is taken.
func TestLast(t *testing.T) {
	q := newQueue[work](10)
	alike := func(w *work) bool { return w.op == nil && w.topic == "t" }
	for i := range 1000 {
		if i%100 == 0 {
			q.put(work{op: &Op{}}, 1)
		}
		q.last(work{topic: "t", offset: fmt.Sprint(i)}, alike)
	}
	items := q.take(nil)
	if len(items) != 20 {
		t.Errorf("got %d items, want 10 operations and an offset behind each", len(items))
	}
	for i, w := range items {
		if want := fmt.Sprint(i/2*100 + 99); i%2 == 1 && w.offset != want {
			t.Errorf("item %d: got offset %s, want %s", i, w.offset, want)
		}
	}
}
