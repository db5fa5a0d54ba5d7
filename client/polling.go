package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/internal/jsonx"
)

// poll reads by long-polling until the session ends, or pauses for an upgrade.
//
// See https://socket.io/docs/v4/engine-io-protocol/#http-long-polling
func (s *session) poll() {
	if s.firstPayload != nil {
		if s.unpack(s.firstPayload) {
			return
		}
		s.firstPayload = nil
	}
	for {
		s.mu.Lock()
		stop := s.paused || s.cause != nil
		s.mu.Unlock()
		if stop {
			return
		}
		body, err := s.get(s.ctx)
		if err != nil {
			s.end(ReasonTransportError, err)
			return
		}
		if s.unpack(body) {
			return
		}
	}
}

// unpack receives the packets of a payload. It reports whether the session is over.
func (s *session) unpack(payload []byte) (over bool) {
	for more := true; more; {
		var p wire.Packet
		var err error
		if p, payload, more, err = wire.NextPacket(payload); err != nil {
			s.end(ReasonParseError, err)
			return true
		}
		if !p.Binary && !utf8.Valid(p.Data) {
			s.end(ReasonParseError, fmt.Errorf("text that is not UTF-8"))
			return true
		}
		s.receive(p)
		select {
		case <-s.done:
			return true
		default:
		}
	}
	return false
}

// get performs one poll.
func (s *session) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.endpoint(Polling, s.id).String(), nil)
	if err != nil {
		return nil, err
	}
	return s.do(req)
}

// post sends packets in one request.
func (s *session) post(ps []wire.Packet) error {
	body := wire.AppendPayload(make([]byte, 0, wire.PayloadLen(ps)), ps)
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.cfg.endpoint(Polling, s.id).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	_, err = s.do(req)
	return err
}

func (s *session) do(req *http.Request) ([]byte, error) {
	for k, vs := range s.cfg.Header {
		if k = http.CanonicalHeaderKey(k); k != "Content-Type" && k != "Host" {
			req.Header[k] = vs
		}
	}
	resp, err := s.cfg.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	limit := s.cfg.MaxRead
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, statusError(resp.StatusCode, body)
	case len(body) > limit:
		return nil, fmt.Errorf("a body of more than %d bytes (Options.MaxRead)", limit)
	}
	return body, nil
}

// statusError reads what the server says of an error.
//
// See https://socket.io/docs/v4/engine-io-protocol/#handshake
func statusError(status int, body []byte) *StatusError {
	e := &StatusError{Status: status}
	var said struct {
		Code    int
		Message string
	}
	if jsonx.Unmarshal(body, &said) == nil {
		e.Code, e.Message = said.Code, said.Message
	}
	return e
}
