package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/internal/jsonx"
)

// A session is one Engine.IO session: a connection to one node, over one transport
// or, in turn, two. It ends once, and does not come back.
//
// Its goroutines: one reads (a poll after the other, or the WebSocket), one writes while
// there is something to write, one upgrades. run waits for all of them.
//
// See https://socket.io/docs/v4/engine-io-protocol/
type session struct {
	cfg     *config
	message func(data []byte, binary bool) error // set before run; called by the reader; data is valid until it returns

	id           string
	pingEvery    time.Duration // how long the server may be silent; 0: for ever
	maxPayload   int           // what the server takes; 0: not known
	upgradable   bool
	firstPayload []byte // what came with the open packet, over polling

	ctx    context.Context // of all requests
	cancel context.CancelFunc
	done   chan struct{} // closed when the session ends
	tasks  sync.WaitGroup

	mu      sync.Mutex
	ws      *wsConn // the transport, unless it is polling
	queue   []wire.Packet
	queued  int  // bytes in queue
	writing bool // a writer runs
	paused  bool // an upgrade is under way: no writer starts, no poll begins
	closing bool // the last packet is in the queue
	idle    chan struct{}
	silence *time.Timer
	cause   *DisconnectError // set when the session ends
}

// overhead is how many bytes a packet counts more than its size where it waits.
const overhead = 128

// hello is the data of the open packet.
type hello struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int64    `json:"pingInterval"` // milliseconds
	PingTimeout  int64    `json:"pingTimeout"`  // milliseconds
	MaxPayload   int      `json:"maxPayload"`   // bytes
}

// open makes a session over the first transport. Nothing is read until run.
func open(ctx context.Context, cfg *config) (*session, error) {
	s := &session{cfg: cfg, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.ConnectTimeout, errors.New("no connection in time (Options.ConnectTimeout)"))
		defer cancel()
	}
	err := s.shake(ctx)
	if err != nil {
		s.cancel()
		if s.ws != nil {
			s.ws.close()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("client: connect to %s over %s: %w", cfg.url.Host, cfg.Transports[0], err)
	}
	return s, nil
}

// shake opens the first transport and reads the open packet.
//
// See https://socket.io/docs/v4/engine-io-protocol/#handshake
func (s *session) shake(ctx context.Context) error {
	var p wire.Packet
	if s.cfg.Transports[0] == Polling {
		body, err := s.get(ctx)
		if err != nil {
			return err
		}
		var more bool
		if p, s.firstPayload, more, err = wire.NextPacket(body); err != nil {
			return err
		}
		if !more {
			s.firstPayload = nil
		}
	} else {
		ws, err := dialWebSocket(ctx, s.cfg, "")
		if err != nil {
			return err
		}
		s.ws = ws
		if p, err = ws.first(ctx); err != nil {
			return err
		}
	}
	if p.Type != wire.Open || p.Binary {
		return errors.New("the server does not begin with an open packet: is it Socket.IO 3 or later?")
	}
	var h hello
	if err := jsonx.Unmarshal(p.Data, &h); err != nil {
		return fmt.Errorf("open packet: %w", err)
	}
	if h.SID == "" || len(h.SID) > 1024 {
		return errors.New("open packet: it has no session id, or a very long one")
	}
	const day = 24 * 60 * 60 * 1000
	s.id, s.maxPayload = h.SID, max(h.MaxPayload, 0)
	if h.PingInterval > 0 {
		s.pingEvery = time.Duration(min(h.PingInterval, 365*day)+min(max(h.PingTimeout, 0), 365*day)) * time.Millisecond
	}
	s.upgradable = s.ws == nil && slices.Contains(h.Upgrades, WebSocket) && slices.Contains(s.cfg.Transports, WebSocket)
	return nil
}

// run reads until the session ends, and waits for all that belongs to it.
func (s *session) run() *DisconnectError {
	s.mu.Lock()
	ws := s.ws
	if s.pingEvery > 0 && s.cause == nil {
		s.silence = time.AfterFunc(s.pingEvery, func() { s.end(ReasonPingTimeout, nil) })
	}
	s.mu.Unlock()
	switch {
	case ws != nil:
		s.readWebSocket(ws)
	case s.upgradable:
		polled := make(chan struct{})
		s.tasks.Go(func() { s.upgrade(polled) })
		s.poll()
		close(polled)
	default:
		s.poll()
	}
	s.tasks.Wait()
	return s.cause
}

// receive takes a packet of the server.
func (s *session) receive(p wire.Packet) {
	switch p.Type {
	case wire.Message:
		if err := s.message(p.Data, p.Binary); err != nil {
			s.end(ReasonParseError, err)
		}
	case wire.Ping:
		s.mu.Lock()
		if s.silence != nil && s.cause == nil {
			s.silence.Reset(s.pingEvery)
		}
		s.mu.Unlock()
		s.send(wire.Packet{Type: wire.Pong, Data: append([]byte(nil), p.Data...)})
	case wire.Close:
		s.end(ReasonTransportClose, nil)
	}
}

// send queues packets, which leave together and in order. It does not wait. What
// they hold is the session's from then on.
func (s *session) send(ps ...wire.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || s.closing {
		return ErrClosed
	}
	n := 0
	for i := range ps {
		n += len(ps[i].Data) + overhead
		size := len(ps[i].Data) + 1
		if s.ws == nil {
			size = wire.PayloadLen(ps[i : i+1])
		}
		if s.maxPayload > 0 && size > s.maxPayload {
			return ErrTooLarge
		}
	}
	if s.queued+n > s.cfg.MaxBuffer {
		return ErrBufferFull
	}
	s.queue = append(s.queue, ps...)
	s.queued += n
	s.startWriter()
	return nil
}

// open reports whether the session takes packets.
func (s *session) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause == nil && !s.closing
}

// ready reports whether what is sent now would leave at once.
func (s *session) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause == nil && !s.writing && !s.paused
}

// startWriter starts the writer if it has something to do. s.mu is held.
func (s *session) startWriter() {
	if s.writing || s.paused || len(s.queue) == 0 || s.cause != nil {
		return
	}
	s.writing = true
	s.tasks.Go(s.write)
}

// write writes until nothing waits.
func (s *session) write() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.cause != nil || s.paused {
			s.writing = false
			if s.idle != nil {
				close(s.idle)
				s.idle = nil
			}
			last := s.closing && len(s.queue) == 0
			s.mu.Unlock()
			if last {
				s.end(ReasonClientDisconnect, nil)
			}
			return
		}
		ws := s.ws
		batch := s.take(ws == nil)
		s.mu.Unlock()
		var err error
		if ws != nil {
			err = ws.write(batch)
		} else {
			err = s.post(batch)
		}
		if err != nil {
			s.end(ReasonTransportError, err)
		}
	}
}

// take takes what is to be written next from the queue: all of it, or for polling as
// much as the server takes in one request. s.mu is held.
func (s *session) take(polling bool) []wire.Packet {
	n := len(s.queue)
	if polling && s.maxPayload > 0 {
		size := wire.PayloadLen(s.queue[:1])
		for n = 1; n < len(s.queue); n++ {
			if size += 1 + wire.PayloadLen(s.queue[n:n+1]); size > s.maxPayload {
				break
			}
		}
	}
	batch := s.queue[:n:n]
	for i := range batch {
		s.queued -= len(batch[i].Data) + overhead
	}
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return batch
}

// shutdown says goodbye to the server behind all that waits, and ends the session, within a second.
func (s *session) shutdown() {
	s.mu.Lock()
	if s.cause != nil || s.closing {
		s.mu.Unlock()
		return
	}
	s.closing = true
	s.queue = append(s.queue, wire.Packet{Type: wire.Close})
	s.queued += overhead
	s.startWriter()
	s.tasks.Go(func() {
		t := time.NewTimer(time.Second)
		defer t.Stop()
		select {
		case <-t.C:
			s.end(ReasonClientDisconnect, nil)
		case <-s.done:
		}
	})
	s.mu.Unlock()
}

// end ends the session, the first time it is called.
func (s *session) end(reason string, err error) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	if s.closing {
		reason, err = ReasonClientDisconnect, nil // what happens after goodbye does not matter
	}
	if reason == ReasonTransportError && errors.Is(err, io.EOF) {
		reason = ReasonTransportClose
	}
	s.cause = &DisconnectError{Reason: reason, Err: err}
	s.queue, s.queued = nil, 0
	if s.silence != nil {
		s.silence.Stop()
	}
	ws := s.ws
	s.mu.Unlock()
	close(s.done)
	s.cancel()
	if ws != nil {
		ws.close()
	}
}
