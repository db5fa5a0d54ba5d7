package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A Receiver performs the operations that come from other nodes and from emitters.
type Receiver interface {
	// Do performs op. It is called on the node's loop, one call at a time, in order of
	// arrival, so it must not block: not on the network, not on a user's code.
	//
	// For an op that asks, answer is not nil. It must be called once with First set, also
	// where nothing was selected or the namespace is not known here, and for EmitAck as many
	// times more as that first answer promised. It may be called at once or later, by any
	// goroutine; it does not wait for the network. Answers that come too late do no harm.
	Do(op *Op, answer func(Answer))
}

// A Node is one process's place in a cluster. Its methods may be called by any number
// of goroutines at once.
type Node struct {
	o       Options
	bus     Bus
	dialect Dialect
	native  bool // the dialect is Native: messages are numbered
	self    Member
	life    uint64

	ctx    context.Context // ends when Close begins
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup
	beat   sync.WaitGroup // the pulse, which must be still before the goodbye
	subs   []Subscription
	ended  chan struct{} // closed when Close is done
	looped chan struct{} // closed when the loop has ended

	numbers  bool // messages are numbered
	outlet   outlet
	hold     hold
	heardAny atomic.Bool  // something came from the bus since the last look
	stirred  atomic.Bool  // likewise, for watch
	echo     atomic.Bool  // the bus brings us our own announcements
	away     atomic.Bool  // the bus refused what was published last
	mute     atomic.Bool  // the dialect cannot ask for what is missing
	batch    atomic.Int64 // bytes that are sent again at once
	receiver atomic.Pointer[Receiver]
	direct   atomic.Pointer[func(from string, data []byte)]
	inbox    *queue[work]
	outbox   outbox
	hello    chan struct{} // holds a token when somebody new should hear of us
	rivals   chan struct{} // holds a token when another node with our id was heard
	quiet    quiet
	logbook  logbook
	interest interest
	told     told
	count    counters

	router  Router // nil where nothing is routed
	always  bool   // the router is obligatory
	tag     sid.Tag
	routing atomic.Pointer[routing]

	mu         sync.Mutex
	peers      map[string]*peer
	ghosts     map[string]ghost // fell silent; perhaps frozen, perhaps still subscribed
	questions  map[string]*question
	namespaces map[string]*opening
	watchers   map[string]time.Time // observers that want to see everything, and when they called
	strange    strange
	steady     time.Time // since when the bus has been there without a break
	closed     bool
	catching   chan struct{} // while catchUp runs; closed when it ends
	changed    chan struct{} // closed when the members change; made by whoever waits for that
}

// work is what waits for the loop: an operation, or a call of a hook.
type work struct {
	op   *Op
	from string
	ask  string // the request to answer; empty for what is told
	size int64
	hook func()
	age  time.Duration // of the lane, where it was told

	msg           *Message // for Options.OnMessage
	topic, offset string   // where it stands in the log; with op nil, that the node has read so far
	kept          *keeping // Keep waits for it
}

// Join makes this process a node of the cluster that bus carries. When it returns, messages
// of all nodes arrive, and the nodes that were there are known, as far as they answered
// within Options.Settle. It returns an error if the options are wrong, the bus is away,
// or another living node has the same id. The bus stays the caller's: it must
// not be closed before the node is.
func Join(ctx context.Context, bus Bus, o *Options) (*Node, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		o:          opts,
		bus:        bus,
		dialect:    dialectOf(bus),
		self:       Member{ID: opts.ID, Name: opts.Name, Started: time.Now(), Version: version},
		life:       newLife(),
		ended:      make(chan struct{}),
		looped:     make(chan struct{}),
		inbox:      newQueue[work](opts.MaxQueue),
		hello:      make(chan struct{}, 1),
		rivals:     make(chan struct{}, 1),
		peers:      make(map[string]*peer),
		ghosts:     make(map[string]ghost),
		questions:  make(map[string]*question),
		namespaces: make(map[string]*opening),
	}
	if n.dialect, err = sealed(n.dialect, opts.Key); err != nil {
		return nil, fmt.Errorf("cluster: join: %w", err)
	}
	_, n.native = n.dialect.(native)
	_, n.numbers = n.dialect.(Laner)
	n.outlet.kept.limit = max(opts.Resend, 0)
	n.batch.Store(batchSize)
	n.logbook.log, _ = bus.(Log)
	n.logbook.direct = make(chan struct{}, directly)
	n.hold.init(n)
	n.initRouting()
	n.outbox.limit = opts.MaxQueue
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.tasks.Go(n.loop)
	n.tasks.Go(n.mend)
	if n.subs, err = n.subscribe(ctx, ""); err == nil {
		if err = n.announce(ctx); err == nil {
			n.beat.Go(n.pulse)
			n.tasks.Go(n.watch)
			err = n.settle(ctx)
		}
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("cluster: join: %w", err)
	}
	return n, nil
}

// settle listens until the nodes that are there had time to answer our first announcement.
func (n *Node) settle(ctx context.Context) error {
	if n.o.Settle < 0 {
		return nil
	}
	t := time.NewTimer(n.o.Settle)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-n.rivals:
		return fmt.Errorf("another node of the cluster has the id %q: give each its own", n.self.ID)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func newLife() uint64 {
	var b [8]byte
	rand.Read(b[:])                          // never fails, by its documentation
	return binary.BigEndian.Uint64(b[:]) | 1 // 0 means none
}

func dialectOf(bus Bus) Dialect {
	if s, ok := bus.(Speaker); ok {
		return s.Dialect()
	}
	return Native("")
}

// ID returns the node's id, which tells it from all others.
func (n *Node) ID() string { return n.self.ID }

// Name returns the node's name, which is for people.
func (n *Node) Name() string { return n.self.Name }

// Tag returns the tag that marks this node's session ids.
func (n *Node) Tag() sid.Tag { return n.tag }

// Self returns how the node announces itself.
func (n *Node) Self() Member { return n.self }

// Attach hands all operations that arrive from now on to r. It returns an error when
// the node has a receiver already or is closed. Before Attach, operations are dropped
// and counted, and questions about sockets are answered: there are none.
func (n *Node) Attach(r Receiver) error {
	if n.isClosed() {
		return ErrClosed
	}
	if r == nil || !n.receiver.CompareAndSwap(nil, &r) {
		return errors.New("cluster: attach: the node has a server already: make a node for each")
	}
	return nil
}

func (n *Node) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// Tell publishes op to all other nodes. It returns when the bus has taken it, in the
// order of the caller's calls, and does not wait for anybody to perform it. An error
// wraps what the bus said. Where it wraps ErrDelayed too, op is kept and will be delivered in its place
// when the bus is back, also if ctx has ended; otherwise it may have reached nobody, and will not be sent again.
func (n *Node) Tell(ctx context.Context, op *Op) error {
	if op.Kind.Asks() {
		return fmt.Errorf("cluster: tell: %v has answers: use Ask", op.Kind)
	}
	if n.isClosed() {
		return ErrClosed
	}
	m := &Message{Kind: Tell, Namespace: op.Namespace, Op: op}
	if !n.route(m) {
		return nil
	}
	if err := n.say(ctx, m); err != nil {
		return fmt.Errorf("cluster: tell: %w", err)
	}
	return nil
}

func (n *Node) publish(ctx context.Context, topic string, data []byte) error {
	err := send(ctx, n.bus, topic, data)
	if err != nil {
		n.count.lost.Add(1)
		if ctx.Err() == nil && !errors.Is(err, ErrTooLarge) {
			n.away.Store(true)
		}
		return err
	}
	if n.away.Load() {
		n.away.Store(false)
	}
	n.count.published.Add(1)
	return nil
}

// receive takes a message from the bus. It decodes and queues, and does not wait.
func (n *Node) receive(topic string, data []byte) { n.incoming(topic, "", data) }

// incoming takes a message from the bus, or from the log, where it has an offset. It returns nil where it was not for
// this node.
func (n *Node) incoming(topic, offset string, data []byte) *Message {
	if !n.heardAny.Load() {
		n.heardAny.Store(true)
	}
	if !n.stirred.Load() {
		n.stirred.Store(true)
	}
	m, err := n.decode(n.self.ID, topic, data)
	if err != nil {
		n.malformed(topic, data, err)
		return nil
	}
	if m == nil {
		return nil
	}
	m.Offset = offset
	if replayed(m.Op) && !m.Routed { // Since does not read what goes by other ways
		m.Op.Offset = offset
	}
	n.take(m, topic, data)
	return m
}

// take takes in what was decoded.
func (n *Node) take(m *Message, topic string, data []byte) {
	if m.From == n.self.ID {
		if m.Kind == Heartbeat && m.Life != 0 && m.Life != n.life {
			n.rival(m)
		}
		if m.Kind == Heartbeat && m.Life == n.life && !n.echo.Load() {
			n.echo.Store(true)
		}
		return
	}
	n.count.received.Add(1)
	if f := n.o.OnMessage; f != nil && m.Kind != Tell && m.Kind != Ask {
		size := int64(len(data)) + 512
		n.inbox.put(work{hook: func() { f(m) }, size: size}, size)
	}
	switch m.Kind {
	case Missing:
		n.touch(m.From)
		n.repeat(m)
	case Again:
		n.touch(m.From)
		n.again(m)
	case Progress:
		n.hold.marks(m)
	case Direct:
		n.touch(m.From)
		n.directed(m)
	case Heartbeat:
		if m.From == "" || m.Member == nil {
			n.malformed(topic, data, errors.New("nobody announces itself"))
			return
		}
		n.hold.marks(m)
		if m.Member.Observer {
			n.watched(m)
		} else {
			n.heard(m)
		}
	case Goodbye:
		n.hold.marks(m)
		n.left(m.From, m.Life)
	case Reply:
		if m.Answer == nil {
			n.malformed(topic, data, errors.New("no answer in a reply"))
			return
		}
		n.touch(m.From)
		n.answered(m, len(data))
	case Tell, Ask:
		if m.Op == nil || m.Op.Kind.Asks() != (m.Kind == Ask) || m.Kind == Ask && m.Request == "" {
			n.malformed(topic, data, errors.New("no operation that fits the kind of message"))
			return
		}
		n.touch(m.From)
		if m.To != "" && m.ToLife != n.life {
			n.count.stray.Add(1) // for an earlier life
			return
		}
		n.accept(m, topic, n.laneOf(m, topic), len(data), false)
	}
}

// decode has the dialect read a message. A dialect should not panic; if one does, whoever can
// publish could stop all nodes with one message, so it ends here.
func (n *Node) decode(node, topic string, data []byte) (m *Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("the dialect panicked, please report this: %v", p)
		}
	}()
	return n.dialect.Decode(node, topic, data)
}

func (n *Node) malformed(topic string, data []byte, err error) {
	if errors.Is(err, errForged) {
		n.count.forged.Add(1)
		n.warn("forged", "cluster: a message was not made with this cluster's key (Options.Key), and was dropped", "topic", topic, "bytes", len(data))
		return
	}
	n.count.malformed.Add(1)
	n.warn("malformed", "cluster: a message could not be read and was dropped", "topic", topic, "bytes", len(data), "err", err)
}

// accept has an operation that came on topic performed in its turn. It reports false for what was there before.
func (n *Node) accept(m *Message, topic string, id laneID, bytes int, again bool) bool {
	w := work{op: m.Op, from: m.From, age: m.Age, size: int64(bytes) + weightOfOp(m.Op)}
	if n.o.OnMessage != nil {
		w.msg = m
	}
	if m.Kind == Ask {
		w.ask = m.Request
	}
	if m.Number == 0 || m.Number > maxNumber {
		if !n.inbox.put(w, w.size) {
			n.count.dropped.Add(1)
		}
	} else if !n.hold.accept(id, m.Number, w, m.Offset == "" && n.o.RepairWait > 0, again) {
		n.count.duplicates.Add(1)
		if m.Offset != "" && n.hold.performed(id, m.Number) {
			n.logbook.repeat(entry{topic, m.Offset})
		}
		return false
	}
	return true
}

// laneOf returns the lane of what came on topic.
func (n *Node) laneOf(m *Message, topic string) laneID {
	id := laneID{from: sender{m.From, m.Life}}
	switch {
	case m.Number == 0:
	case m.To != "":
		id.lane = directLane
	case !n.native:
		if n.numbers {
			id.lane = n.dialect.(Laner).Lane(m)
		}
	case m.Routed:
		id.lane = topic
	}
	return id
}

// loop performs what others told us, one by one.
func (n *Node) loop() {
	defer close(n.looped)
	var items []work
	for {
		if items = n.inbox.take(items); items == nil {
			return
		}
		for i := range items {
			w := &items[i]
			switch {
			case w.hook != nil:
				w.hook()
			case w.op == nil:
				n.logbook.reached(w.topic, w.offset)
			case w.kept != nil:
				n.fulfil(w)
			default:
				n.perform(w)
			}
			n.inbox.release(w.size)
			*w = work{}
		}
	}
}

func (n *Node) perform(w *work) {
	if w.msg != nil {
		n.o.OnMessage(w.msg)
	}
	r := n.receiver.Load()
	switch {
	case r == nil:
		n.count.unattached.Add(1)
		if !n.o.Observer && w.ask != "" && w.op.Kind != ServerAsk { // there is nothing here, and nobody shall wait for us
			n.replier(w)(Answer{First: true})
		}
	case w.ask != "" && !n.o.Observer:
		(*r).Do(w.op, n.replier(w))
	default:
		(*r).Do(w.op, nil)
	}
}

// Close says goodbye and leaves the cluster. It waits until the node's goroutines have
// ended and Do was called for the last time; questions that wait end with ErrClosed.
// It may be called twice, and does not close the bus. It must not be called by Do or a hook.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		<-n.ended
		return nil
	}
	n.closed = true
	n.tellChanged()
	subs := n.subs
	for _, o := range n.namespaces {
		subs = append(subs, o.subs...)
	}
	n.mu.Unlock()
	defer close(n.ended)

	n.cancel(ErrClosed)
	n.beat.Wait() // an announcement behind the goodbye would make us a member again
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !n.o.Observer {
		if topic, data, err := n.encode(&Message{Kind: Goodbye}); err == nil {
			n.publish(ctx, topic, data) // without it, others find out by DeadAfter
		}
	}
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	n.interest.close()
	n.inbox.close()
	n.outbox.close()
	n.tasks.Wait()
	n.interest.closeSubscriptions()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cluster: close: %w", err)
	}
	return nil
}
