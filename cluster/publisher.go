package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Emitter is the id under which publishers send, in every format. No node may have it.
const Emitter = "emitter"

// A Publisher tells a cluster operations without being a node of it: it receives nothing,
// announces nothing, and nobody counts it or waits for it. It needs no Close.
// Any number of goroutines may use it.
type Publisher struct {
	bus     Bus
	dialect Dialect
	err     error // of the options
	native  bool
	life    uint64
	number  atomic.Uint64
}

// PublisherOptions are a Publisher's settings. A nil *PublisherOptions means all defaults.
type PublisherOptions struct {
	// Key is that of the nodes (Options.Key), where they have one: at least 16 bytes. Only
	// the native format can carry it; on a bus that speaks another, Tell returns an error.
	Key []byte
}

// NewPublisher returns a publisher to the cluster that bus carries. The bus stays the caller's.
func NewPublisher(bus Bus, o *PublisherOptions) *Publisher {
	p := &Publisher{bus: bus, dialect: dialectOf(bus), life: newLife()}
	if o != nil && len(o.Key) > 0 {
		var d Dialect
		if d, p.err = sealed(p.dialect, o.Key); p.err == nil {
			p.dialect = d
		}
	}
	_, p.native = p.dialect.(native)
	return p
}

// Tell publishes op to all nodes. What one goroutine tells is performed in the order of its calls. In the native
// format it has numbers, so that nodes notice what was lost; but a publisher keeps nothing and hears
// nothing, so it is not sent again. An error says that op may have reached nobody; where it was an error
// of the bus, nodes report op as lost.
func (p *Publisher) Tell(ctx context.Context, op *Op) error {
	if p.err != nil {
		return p.err
	}
	if op.Kind.Asks() {
		return fmt.Errorf("cluster: tell: %v has answers, which only a node can receive: %w", op.Kind, ErrUnsupported)
	}
	m := &Message{Kind: Tell, From: Emitter, Life: p.life, Namespace: op.Namespace, Op: op}
	var topic string
	var data []byte
	var err error
	if p.native {
		if err = check(m); err == nil {
			m.Number = p.number.Add(1)
		}
	}
	if err == nil {
		topic, data, err = p.dialect.Encode(m)
	}
	if err == nil {
		err = send(ctx, p.bus, topic, data)
	}
	if err != nil {
		return fmt.Errorf("cluster: tell: %w", err)
	}
	return nil
}
