package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// replier returns the function that answers the question w. It encodes and queues.
func (n *Node) replier(w *work) func(Answer) {
	var number atomic.Uint64
	to, request, namespace := w.from, w.ask, w.op.Namespace
	return func(a Answer) {
		a.Node = n.self.ID
		topic, data, err := n.encode(&Message{
			Kind: Reply, To: to, Request: request, Namespace: namespace,
			Number: number.Add(1), Answer: &a,
		})
		if err != nil {
			n.count.lost.Add(1)
			n.warn("reply", "cluster: an answer could not be written", "err", err)
			return
		}
		if !n.outbox.send(n, letter{topic: topic, data: data}) {
			n.count.lost.Add(1)
			n.warn("outbox", "cluster: answers cannot be sent as fast as they are given; some were dropped", "MaxQueue", n.o.MaxQueue)
		}
	}
}

type letter struct {
	topic   string
	data    []byte
	refused func() // where not nil, called when it is too large for the bus
}

// An outbox sends answers, so that nobody who answers waits for the medium. Its
// goroutines live while there is something to send.
type outbox struct {
	limit int64

	mu      sync.Mutex
	letters []letter
	bytes   int64
	workers int
	closed  bool
	room    chan struct{} // closed when there is room for more; made by whoever waits
}

const (
	maxWorkers   = 4
	sendDeadline = 5 * time.Second
)

func (o *outbox) send(n *Node, l letter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := int64(len(l.data))
	if o.closed {
		return true // the question ends without us
	}
	if o.bytes > 0 && o.bytes+size > o.limit {
		return false
	}
	o.letters = append(o.letters, l)
	o.bytes += size
	if o.workers < maxWorkers && len(o.letters) > 8*o.workers {
		o.workers++
		n.tasks.Go(func() { o.work(n) })
	}
	return true
}

func (o *outbox) work(n *Node) {
	for {
		o.mu.Lock()
		if len(o.letters) == 0 || o.closed {
			o.workers--
			o.letters = nil
			o.mu.Unlock()
			return
		}
		l := o.letters[0]
		o.letters[0] = letter{}
		o.letters = o.letters[1:]
		o.mu.Unlock()

		size := int64(len(l.data))
		ctx, cancel := context.WithTimeout(n.ctx, sendDeadline)
		err := n.publish(ctx, l.topic, l.data)
		if errors.Is(err, ErrTooLarge) && l.refused != nil {
			l.refused()
		} else if err != nil && n.ctx.Err() == nil {
			n.warn("away", "cluster: an answer was not sent", "err", err)
		}
		cancel()
		n.recycle(l.data)
		o.mu.Lock()
		o.bytes -= size
		o.tellRoom()
		o.mu.Unlock()
	}
}

// Pace waits until less than half of the answers that may wait to be sent (Options.MaxQueue) does, or ctx or the
// node ends. Whoever answers a question in many parts calls it before each of them, so that they are not
// dropped. It must not be called by Do or a hook.
func (n *Node) Pace(ctx context.Context) {
	for {
		room := n.outbox.hasRoom()
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

// hasRoom returns nil, or what is closed when there is room.
func (o *outbox) hasRoom() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.bytes < o.limit/2 {
		return nil
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// tellRoom has those who wait for room look again. o.mu is held.
func (o *outbox) tellRoom() {
	if o.room != nil && (o.closed || o.bytes < o.limit/2) {
		close(o.room)
		o.room = nil
	}
}

// close ends the outbox; what waits is not sent.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.letters = true, nil
	o.tellRoom()
}
