package client

import (
	"context"
	"errors"

	"github.com/atollhq/atoll/engine/wire"
)

// upgrade moves the session from polling to a WebSocket, and then reads from that. Where it
// fails before the last step, the session goes on with polling. polled is closed
// when no poll is under way and none will begin.
//
// See https://socket.io/docs/v4/engine-io-protocol/#upgrade
func (s *session) upgrade(polled <-chan struct{}) {
	ws, err := s.probe()
	if err != nil {
		s.cfg.Logger.Debug("socket.io client: stays on polling", "err", err)
		return
	}
	if !s.pause(polled) {
		ws.close()
		return
	}
	if err := ws.write([]wire.Packet{{Type: wire.Upgrade}}); err != nil {
		ws.close()
		s.end(ReasonTransportError, err)
		return
	}
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		ws.close()
		return
	}
	s.ws, s.paused = ws, false
	s.startWriter()
	s.mu.Unlock()
	s.readWebSocket(ws)
}

// probe opens a WebSocket and asks the server whether messages pass through it.
func (s *session) probe() (*wsConn, error) {
	ctx := s.ctx
	if s.cfg.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.ConnectTimeout)
		defer cancel()
	}
	ws, err := dialWebSocket(ctx, s.cfg, s.id)
	if err != nil {
		return nil, err
	}
	if err = ws.write([]wire.Packet{{Type: wire.Ping, Data: []byte("probe")}}); err == nil {
		var p wire.Packet
		if p, err = ws.first(ctx); err == nil && (p.Type != wire.Pong || string(p.Data) != "probe") {
			err = errors.New("the server does not answer the probe")
		}
	}
	if err != nil {
		ws.close()
		return nil, err
	}
	return ws, nil
}

// pause waits until nothing is under way over polling. It reports false where the session is over.
func (s *session) pause(polled <-chan struct{}) bool {
	s.mu.Lock()
	s.paused = true
	idle := make(chan struct{})
	if s.writing {
		s.idle = idle
	} else {
		close(idle)
	}
	s.mu.Unlock()
	for _, c := range []<-chan struct{}{idle, polled} {
		select {
		case <-c:
		case <-s.done:
			return false
		}
	}
	return true
}
