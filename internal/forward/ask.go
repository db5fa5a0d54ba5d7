package forward

import (
	"context"
	"errors"
	"fmt"
)

// An AnswerError is the error that the other node's Options.Answer returned, as text.
type AnswerError struct{ Text string }

func (e *AnswerError) Error() string { return e.Text }

// Ask asks another node: its Options.Answer answers. method has at most 255 bytes, body 512 KiB; body is the caller's
// again when Ask returns. The question is sent once. Between questions, and between them and requests, there is no order. An
// error wraps ErrAway where the node is none, or went before it answered; it is an *AnswerError where the node
// answered with one; after Close it is ErrClosed.
func (p *Peers) Ask(ctx context.Context, node, method string, body []byte) ([]byte, error) {
	if len(method) > 255 || len(body) > maxAsk {
		return nil, fmt.Errorf("forward: ask: a method has at most 255 bytes, got %d, and a body %d, got %d", len(method), maxAsk, len(body))
	}
	o, c, err := p.begin(ctx, node)
	if err != nil {
		return nil, askError(ctx, err)
	}
	p.count.asksOut.Add(1)
	c.asks = true
	o.pending = appendAskFrame(o.pending, c.id, method, body)
	o.release(true)
	select {
	case <-c.ready:
	case <-ctx.Done():
		o.cancel(c, true)
		o.recycle(c)
		return nil, context.Cause(ctx)
	}
	if c.err != nil {
		return nil, askError(ctx, c.err)
	}
	defer o.recycle(c)
	if len(c.head) == 0 {
		return nil, fmt.Errorf("forward: ask: %w", errMalformed)
	}
	answer := append([]byte(nil), c.head[1:]...)
	if c.head[0] != 0 {
		return nil, &AnswerError{string(answer)}
	}
	return answer, nil
}

func askError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ErrClosed):
		return ErrClosed
	case errors.Is(err, ErrAway):
		return err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// askHere answers another node's question.
func (p *Peers) askHere(ctx context.Context, from, method string, body []byte) (answer []byte, err error) {
	p.count.asksIn.Add(1)
	if p.o.Answer == nil {
		return nil, errors.New("forward: this node answers no questions")
	}
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("forward: Options.Answer panicked", "method", method, "panic", v)
			answer, err = nil, errors.New("forward: it panicked")
		}
	}()
	answer, err = p.o.Answer(ctx, from, method, body)
	if err == nil && len(answer) > maxAsk {
		return nil, fmt.Errorf("forward: the answer has %d bytes, and may have %d", len(answer), maxAsk)
	}
	return answer, err
}
