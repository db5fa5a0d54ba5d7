package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// Ask publishes op to all other nodes and yields their answers as they come. It ends when
// all have answered and every promised ack has come. When ctx ends before (without
// a deadline in ctx, op.Timeout counts, or else Options.AskTimeout), or a node dies
// meanwhile, or the bus is away, the last pair is an empty Answer and an *AbsentError that
// names who is missing.
//
// The question is published when the iteration begins, so it keeps its place among what
// the same goroutine tells. It is put to the nodes that are members then: who joins later
// may answer, but is not waited for. Leaving the loop ends the question.
func (n *Node) Ask(ctx context.Context, op *Op) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		if !op.Kind.Asks() {
			yield(Answer{}, fmt.Errorf("cluster: ask: %v has no answers: use Tell", op.Kind))
			return
		}
		if _, ok := ctx.Deadline(); !ok {
			timeout := op.Timeout
			if timeout <= 0 {
				timeout = n.o.AskTimeout
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if n.o.Observer { // who has no server has nobody who opens namespaces
			if err := n.Open(ctx, op.Namespace); err != nil {
				yield(Answer{}, err)
				return
			}
		}
		q, err := n.ask(ctx, op)
		if err != nil {
			n.count.absent.Add(1)
			yield(Answer{}, err)
			return
		}
		defer n.forget(q)
		for {
			cause := context.Cause(ctx)
			if cause == nil {
				cause = context.Cause(n.ctx)
			}
			answers, done, absent := q.take(cause)
			for i := range answers {
				if !yield(answers[i], nil) {
					return
				}
			}
			if done {
				if absent != nil {
					n.count.absent.Add(1)
					yield(Answer{}, absent)
				}
				return
			}
			if len(answers) > 0 {
				continue
			}
			select {
			case <-q.wake:
			case <-ctx.Done():
			case <-n.ctx.Done():
			}
		}
	}
}

// Parts reports whether a question for Fetch may be answered in parts: a First answer that says in
// Clients how many more follow, and those.
func (n *Node) Parts() bool { return n.native }

// ask registers and publishes a question.
func (n *Node) ask(ctx context.Context, op *Op) (*question, error) {
	q := &question{
		kind:  op.Kind,
		limit: n.o.MaxQueue,
		wake:  make(chan struct{}, 1),
		named: make(map[string]*tally),
	}
	e, err := n.expect(ctx, op.Namespace)

	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, ErrClosed
	}
	for id, p := range n.peers {
		if e.members == nil || e.members[id] {
			q.named[id] = &tally{name: p.Name, awaited: true}
		}
	}
	if e.counted {
		q.unnamed = max(0, e.total-len(q.named))
		q.byCount, q.total = !e.exact, e.total
	}
	q.id = rand.Text()
	n.questions[q.id] = q
	n.mu.Unlock()
	n.count.asks.Add(1)

	if err == nil && (len(q.named) > 0 || q.unnamed > 0 || op.Kind == EmitAck || op.Kind == ServerAsk) {
		if d, ok := ctx.Deadline(); ok && op.Timeout <= 0 {
			o := *op
			o.Timeout = max(time.Until(d), time.Millisecond)
			op = &o
		}
		err = n.say(ctx, &Message{Kind: Ask, Request: q.id, Namespace: op.Namespace, Op: op})
	}
	if err != nil {
		n.forget(q)
		return nil, q.absentFor(fmt.Errorf("cluster: ask: %w", err))
	}
	return q, nil
}

func (n *Node) forget(q *question) {
	n.mu.Lock()
	delete(n.questions, q.id)
	n.mu.Unlock()
}

// asking returns the questions that wait, where some are to be told something. n.mu is held.
func (n *Node) asking(some bool) []*question {
	if !some || len(n.questions) == 0 {
		return nil
	}
	qs := make([]*question, 0, len(n.questions))
	for _, q := range n.questions {
		qs = append(qs, q)
	}
	return qs
}

// answered takes in an answer.
func (n *Node) answered(m *Message, bytes int) {
	n.mu.Lock()
	q := n.questions[m.Request]
	n.mu.Unlock()
	if q == nil {
		n.count.stray.Add(1)
		return
	}
	a := *m.Answer
	if m.From != "" {
		a.Node = m.From
	}
	switch q.put(a, m.Number, int64(bytes)+weightOfAnswer(&a)) {
	case taken:
		n.count.answers.Add(1)
	case again:
		n.count.duplicates.Add(1)
	case refused:
		n.count.dropped.Add(1)
		n.warn("answers", "cluster: the answers to a question come faster than they are read; some were dropped", "MaxQueue", n.o.MaxQueue)
	}
}

// A question waits for answers.
type question struct {
	id    string
	kind  Kind
	limit int64
	wake  chan struct{} // holds a token when there is something to see

	byCount bool // total answers are enough, from whichever nodes
	total   int

	// How many answers are expected from nodes that are not in named: without a
	// name, or with one that we did not know yet.
	unnamed int

	mu      sync.Mutex
	named   map[string]*tally
	others  tally // of all nodes without a name, together
	firsts  int   // first answers of expected nodes
	answers []Answer
	bytes   int64
}

// A tally is what one node owes and has given.
type tally struct {
	name    string
	awaited bool // it is waited for
	lost    bool // it died or left
	firsts  int
	clients int // acks or parts promised
	acks    int // acks or parts given
	numbers numbers
}

// owes reports whether something is missing from a node.
func (t *tally) owes() bool { return t.firsts == 0 || t.acks < t.clients }

type verdict int

const (
	taken verdict = iota
	again
	refused
)

// put takes in one answer.
func (q *question) put(a Answer, number uint64, size int64) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	promise := q.kind == EmitAck && a.First // small, and the count of the others hangs on it
	if q.bytes > 0 && q.bytes+size > q.limit && !promise {
		return refused
	}
	t := &q.others
	if a.Node != "" {
		if t = q.named[a.Node]; t == nil && len(q.named) >= 2*maxPeers {
			return refused // no cluster is that large
		}
		if t == nil {
			// It came after we asked. Where nodes are counted, it was counted without its name.
			t = &tally{}
			q.named[a.Node] = t
			if q.unnamed > 0 {
				q.unnamed--
				t.awaited = true
			}
		}
		if number > 0 && !t.numbers.first(number) || a.First && t.firsts > 0 {
			return again
		}
	}
	if a.First {
		t.firsts++
		if a.Node == "" || t.awaited {
			q.firsts++
		}
		if q.inParts() {
			t.clients += max(0, a.Clients)
		}
	} else if q.inParts() {
		t.acks++
	}
	q.answers = append(q.answers, a)
	q.bytes += size
	signal(q.wake)
	return taken
}

// inParts reports whether a first answer promises more.
func (q *question) inParts() bool { return q.kind == EmitAck || q.kind == Fetch }

// lose says that a node is not waited for any more.
func (q *question) lose(id string) {
	q.mu.Lock()
	if t := q.named[id]; t != nil {
		t.lost = true
	}
	q.mu.Unlock()
	signal(q.wake)
}

// take returns the answers that wait, and whether they are the last: because nothing is
// waited for any more, or because there are none and the wait has ended with cause. After the
// last, absent tells who is missing, nil if nobody is.
func (q *question) take(cause error) (answers []Answer, last bool, absent error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	answers = q.answers
	q.answers, q.bytes = nil, 0
	if q.done() {
		cause, last = nil, true
	} else {
		last = len(answers) == 0 && cause != nil
	}
	if last {
		if e := q.missing(cause); len(e.Nodes) > 0 || e.Unnamed > 0 || e.Acks > 0 {
			absent = e
		}
	}
	return answers, last, absent
}

// done reports whether nothing is waited for any more. q.mu is held.
func (q *question) done() bool {
	if q.others.acks < q.others.clients {
		return false
	}
	complete := q.others.firsts >= q.unnamed
	for _, t := range q.named {
		if t.awaited && !t.lost {
			if t.acks < t.clients {
				return false
			}
			complete = complete && t.firsts > 0
		}
	}
	return complete || q.byCount && q.firsts >= q.total
}

func (q *question) absentFor(cause error) *AbsentError {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.missing(cause)
}

// missing tells who is missing. q.mu is held.
func (q *question) missing(cause error) *AbsentError {
	e := &AbsentError{Err: cause}
	enough := q.byCount && q.firsts >= q.total // who has not answered does not have the namespace
	for id, t := range q.named {
		if !t.awaited || !t.owes() || enough && t.firsts == 0 {
			continue
		}
		e.Nodes = append(e.Nodes, label(t.name, id))
		if q.kind == EmitAck {
			e.Acks += max(0, t.clients-t.acks)
		}
	}
	slices.Sort(e.Nodes)
	if !enough {
		e.Unnamed = max(0, q.unnamed-q.others.firsts)
	}
	if missing := max(0, q.others.clients-q.others.acks); q.kind == EmitAck {
		e.Acks += missing
	} else if missing > 0 {
		e.Unnamed++ // one of them, at least
	}
	return e
}

// label names a node for people.
func label(name, id string) string {
	if name == "" || name == id {
		return id
	}
	return name + " (" + id + ")"
}
