package atoll

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// do performs an operation on the sockets of this node: a local call's, another node's or
// an emitter's, all the same. It does not block. answer is set where op asks; it may be
// called later, by other goroutines.
func (ns *Namespace) do(op *cluster.Op, answer func(cluster.Answer)) {
	switch op.Kind {
	case cluster.Emit:
		ns.broadcast(op)
	case cluster.EmitAck:
		a := newAck(ns, op, answer, func() {})
		a.start()
		a.expire()
	case cluster.ServerEmit, cluster.ServerAsk:
		ns.serverEvent(op, answer)
	case cluster.Rooms:
		answer(cluster.Answer{First: true, Rooms: ns.rooms.list()})
	default:
		ns.each(op, answer)
	}
}

// each performs the operations that are something done to each selected socket.
func (ns *Namespace) each(op *cluster.Op, answer func(cluster.Answer)) {
	to := ns.rooms.selected(&op.Selector)
	defer to.free()
	switch op.Kind {
	case cluster.JoinRooms:
		for _, s := range to.sockets {
			ns.rooms.enter(s, op.Names...)
			s.changed()
		}
		if ns.rooms.routed && len(to.sockets) > 0 { // we do not wait
			sockets := slices.Clone(to.sockets)
			ns.srv.work.Go(func() { ns.listen(ns.srv.ctx, sockets...) })
		}
	case cluster.LeaveRooms:
		for _, s := range to.sockets {
			ns.unlisten(ns.rooms.exit(s, op.Names...))
			s.changed()
		}
	case cluster.Disconnect:
		for _, s := range to.sockets {
			s.Disconnect(op.Close)
		}
	case cluster.Count:
		answer(cluster.Answer{First: true, Clients: len(to.sockets)})
	case cluster.Fetch:
		ns.fetch(op, to, answer)
	default:
		ns.srv.log.Warn("unknown operation ignored; is another node newer?", "kind", op.Kind, "nsp", ns.name)
		if answer != nil {
			answer(cluster.Answer{First: true})
		}
	}
}

// broadcast encodes the event once and puts the same bytes in line for every receiver.
func (ns *Namespace) broadcast(op *cluster.Op) {
	to := ns.rooms.selected(&op.Selector)
	defer to.free()
	if len(to.sockets) == 0 {
		return
	}
	ns.spread(op, to, protocol.NoID)
}

func (ns *Namespace) spread(op *cluster.Op, to *receivers, id int64) {
	volatile := op.Flags&cluster.Volatile != 0
	var m message
	offset := ""
	if ns.srv.recovery != nil && id < 0 {
		if !volatile {
			offset = op.Offset
		}
		m = offsetMessage(op, offset)
	} else {
		m = opMessage(op, id)
	}
	if hook := ns.h.outgoing; hook != nil {
		ns.tellHook(hook, op, to)
	}
	for _, s := range to.sockets {
		_ = s.deliver(m, volatile, offset) // a socket that ended meanwhile gets nothing
	}
}

// tellHook calls the hook of OnAnyOutgoing for each receiver. With recovery it calls it apart: nothing that goes through
// the log can be performed meanwhile here, and a hook that emits would wait for itself.
func (ns *Namespace) tellHook(hook func(*Socket, string), op *cluster.Op, to *receivers) {
	name := eventName(op.Data)
	if ns.srv.recovery == nil {
		for _, s := range to.sockets {
			hook(s, name)
		}
		return
	}
	sockets := slices.Clone(to.sockets)
	if !ns.hooks.put(ns.srv, 128+len(name)+8*len(sockets), func() {
		for _, s := range sockets {
			hook(s, name)
		}
	}) {
		ns.srv.log.Error("OnAnyOutgoing is too slow; it is not told of an event", "nsp", ns.name, "event", name, "limit", maxServerQueue)
	}
}

// An ack is an event on its way to many, and the answers on their way back.
type ack struct {
	ns     *Namespace
	op     *cluster.Op
	answer func(cluster.Answer)
	lost   func() // a client is gone that was to answer
	id     int64
	left   atomic.Int64 // who has not answered

	mu    sync.Mutex
	open  []*Socket
	timer *time.Timer
}

func newAck(ns *Namespace, op *cluster.Op, answer func(cluster.Answer), lost func()) *ack {
	return &ack{ns: ns, op: op, answer: answer, lost: lost, id: ns.nextID()}
}

// start sends the event. The answer with First comes before all others.
func (a *ack) start() {
	to := a.ns.rooms.selected(&a.op.Selector)
	defer to.free()
	asked := make([]*Socket, 0, len(to.sockets))
	hold := make(chan struct{})
	for _, s := range to.sockets {
		if s.expect(a.id, func(args event.Args, err error) {
			<-hold
			if err != nil {
				a.lost()
			} else {
				a.answer(cluster.Answer{Data: args.JSON(), Attachments: args.Attachments()})
			}
			if a.left.Add(-1) == 0 {
				a.end() // nobody is waited for: keep nothing until the time is up
			}
		}) {
			asked = append(asked, s)
		}
	}
	a.mu.Lock()
	a.open = asked
	a.mu.Unlock()
	a.left.Store(int64(len(asked)))
	a.answer(cluster.Answer{First: true, Clients: len(asked)})
	close(hold)
	if len(asked) > 0 {
		a.ns.spread(a.op, to, a.id)
	}
}

// expire has the waiting end when the time is up.
func (a *ack) expire() {
	d := a.op.Timeout
	if d <= 0 {
		d = a.ns.srv.opts.ackTimeout()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) > 0 { // not all have answered already
		a.timer = time.AfterFunc(d, a.end)
	}
}

// end forgets who has not answered.
func (a *ack) end() {
	a.mu.Lock()
	open := a.open
	a.open = nil
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	for _, s := range open {
		s.forget(a.id)
	}
}

// info describes the socket to other nodes.
func (s *Socket) info(fields cluster.Fields) cluster.SocketInfo {
	i := cluster.SocketInfo{ID: s.id}
	if fields.Has(cluster.FieldRooms) {
		i.Rooms = s.Rooms()
	}
	if fields.Has(cluster.FieldData) {
		i.Data = s.dataJSON()
	}
	if fields.Has(cluster.FieldHandshake) {
		i.Handshake = s.sharedJSON()
	}
	return i
}

// sharedJSON is what other nodes are shown of the handshake.
func (s *Socket) sharedJSON() []byte {
	var shared any
	if f := s.ns.srv.opts.ShareHandshake; f != nil {
		shared = f(s)
	} else {
		shared = s.shared()
	}
	data, err := marshal(shared)
	if err != nil {
		s.log().Error("the handshake cannot be shown to other nodes", "err", err)
		return []byte("{}")
	}
	return data
}

// private are the headers that stay on the node.
var private = map[string]bool{"authorization": true, "proxy-authorization": true, "cookie": true}

// shared is the handshake as the official server shows it, without what is secret.
func (s *Socket) shared() any {
	h := s.Handshake()
	headers := make(map[string]string, len(h.Header))
	for k, v := range h.Header {
		if k = strings.ToLower(k); !private[k] {
			headers[k] = strings.Join(v, ", ")
		}
	}
	query := make(map[string]string)
	for k, v := range h.URL.Query() {
		query[k] = v[0]
	}
	return struct {
		Headers map[string]string `json:"headers"`
		Time    string            `json:"time"`
		Address string            `json:"address"`
		XDomain bool              `json:"xdomain"`
		Secure  bool              `json:"secure"`
		Issued  int64             `json:"issued"`
		URL     string            `json:"url"`
		Query   map[string]string `json:"query"`
		Auth    struct{}          `json:"auth"`
	}{
		Headers: headers, Time: h.Time.Format(time.RFC1123), Address: h.RemoteAddr,
		XDomain: h.Header.Get("Origin") != "", Secure: h.Secure, Issued: h.Time.UnixMilli(),
		URL: h.URL.RequestURI(), Query: query,
	}
}

func decodeJSON(data []byte, v any) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("atoll: %w", err)
	}
	return nil
}

// dataJSON is the socket's data as other nodes, and the store, see it.
func (s *Socket) dataJSON() (data []byte) {
	v := s.Data()
	if v == nil {
		return nil
	}
	data, err := marshal(v)
	if err != nil {
		s.log().Error("the socket's data cannot be shown to other nodes or recovered; what SetData stores must be JSON", "err", err)
		return nil
	}
	return data
}

// marshal is json.Marshal for values of users, whose methods may panic.
func marshal(v any) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return json.Marshal(v)
}
