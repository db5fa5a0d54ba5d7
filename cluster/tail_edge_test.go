package cluster

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"testing"
	"time"
)

// A shelf is a Log that has what it was given: a message each of as many senders, with offsets from 1.
type shelf struct {
	Log
	records []Record
}

func offsetNumber(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}

func (s *shelf) Compare(a, b string) int { return cmp.Compare(offsetNumber(a), offsetNumber(b)) }

func (s *shelf) Since(_ context.Context, _, offset string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range s.records[offsetNumber(offset):] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

const shelved = "atoll.all"

// onShelf returns a node whose log has so many messages, of which it has followed the last.
func onShelf(t *testing.T, messages int) (*Node, *shelf) {
	t.Helper()
	s := &shelf{}
	d := Native("atoll")
	for i := range messages {
		m := &Message{Kind: Tell, From: fmt.Sprint("node", i), Life: 1, Number: 1, Op: &Op{Kind: Emit, Namespace: "/", Data: []byte(`["e"]`)}}
		_, data, err := d.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		s.records = append(s.records, Record{fmt.Sprint(i + 1), data})
	}
	n := &Node{dialect: d, native: true, ctx: t.Context()}
	n.o.LogTail = 1 << 20
	n.logbook.log = s
	n.logbook.came(shelved, fmt.Sprint(messages), nil)
	return n, s
}

// Who looks into a tail while somebody else extends it finds decoded what was decoded.
func TestExtendedMeanwhile(t *testing.T) {
	n, _ := onShelf(t, 100)
	if rs, ok, err := n.recent(t.Context(), shelved, "50"); len(rs) != 50 || !ok || err != nil {
		t.Fatalf("got %d records, %v and error %v, want 50", len(rs), ok, err)
	}
	x := n.logbook.tails[shelved]
	n.decodeTail(x)
	if err := n.extend(x, "10", x.start, x.limit-x.bytes); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"50", "10"} {
		if got, want := len(x.behind(n.logbook.log, from)), 100-offsetNumber(from); got != want {
			t.Errorf("behind %s: got %d decoded records, want %d", from, got, want)
		}
	}
	n.tasks.Wait()
}

// A tail that lives for long remembers no more senders than it holds messages of, but for some.
func TestSendersOfTail(t *testing.T) {
	const many = 5000
	n, s := onShelf(t, many)
	n.o.LogTail = 100 * recordSize
	n.logbook.followed[shelved] = "1"
	x := n.logbook.tail(shelved, n.o.LogTail)
	for _, r := range s.records[1:] {
		n.logbook.came(shelved, r.Offset, r.Data)
		n.decodeTail(x)
	}
	if got := len(x.seen); got > 2*fewSenders {
		t.Errorf("got %d senders that are remembered, of %d; want %d at most", got, many, 2*fewSenders)
	}
	if rs := x.behind(s, fmt.Sprint(many-10)); len(rs) != 10 || rs[0].op == nil || rs[0].twice.Load() {
		t.Errorf("got %d records behind the last ten but one, want 10, none of them twice", len(rs))
	}
}

// A topic on which nothing comes any more keeps no memory for those who came back once.
func TestTailOfSilence(t *testing.T) {
	n, _ := onShelf(t, 10)
	if rs, _, err := n.recent(t.Context(), shelved, "5"); len(rs) != 5 || err != nil {
		t.Fatalf("got %d records and error %v, want 5", len(rs), err)
	}
	n.tasks.Wait()
	now := time.Now()
	for _, x := range []struct {
		after time.Duration
		want  int
	}{{tailStays / 2, 1}, {tailStays + time.Second, 0}} {
		n.logbook.rest(now.Add(x.after))
		if got := len(n.logbook.tails); got != x.want {
			t.Errorf("after %v: got %d tails, want %d", x.after, got, x.want)
		}
	}
	if rs, ok, err := n.recent(t.Context(), shelved, "5"); len(rs) != 5 || !ok || err != nil {
		t.Errorf("again: got %d records, %v and error %v, want 5", len(rs), ok, err)
	}
	n.tasks.Wait()
}
