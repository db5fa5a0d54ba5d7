package cluster

import (
	"context"
	"errors"
	"fmt"
)

// An opening is what a node subscribes to for one namespace.
type opening struct {
	ready chan struct{} // closed when subs and err are set
	subs  []Subscription
	err   error
}

// Open makes sure that the operations on a namespace arrive, from when it returns. A
// namespace that is open stays open. Native needs nothing for a namespace; other dialects
// subscribe, and then Open returns an error when the bus is away.
func (n *Node) Open(ctx context.Context, namespace string) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	o, ok := n.namespaces[namespace]
	if !ok {
		o = &opening{ready: make(chan struct{})}
		n.namespaces[namespace] = o
	}
	n.mu.Unlock()
	if ok {
		select {
		case <-o.ready:
			return o.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}

	subs, err := n.subscribe(ctx, namespace)
	if err != nil {
		err = fmt.Errorf("cluster: open %s: %w", namespace, err)
	}
	n.mu.Lock()
	if err != nil {
		delete(n.namespaces, namespace)
	} else if n.closed {
		err = ErrClosed
	} else {
		o.subs, subs = subs, nil
	}
	o.err = err
	n.mu.Unlock()
	close(o.ready)
	closeAll(subs)
	return err
}

// CloseNamespace takes back what Open did; it waits until the last operation on the
// namespace was queued. A namespace that is not open is no error.
func (n *Node) CloseNamespace(namespace string) error {
	n.mu.Lock()
	o := n.namespaces[namespace]
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	<-o.ready
	n.mu.Lock()
	if n.namespaces[namespace] == o {
		delete(n.namespaces, namespace)
	}
	subs := o.subs
	o.subs = nil
	n.mu.Unlock()
	return closeAll(subs)
}

// subscribe subscribes to what the dialect wants for namespace, all of it or nothing.
func (n *Node) subscribe(ctx context.Context, namespace string) ([]Subscription, error) {
	var subs []Subscription
	for _, topic := range n.dialect.Topics(n.self.ID, namespace) {
		s, err := n.bus.Subscribe(ctx, topic, n.receive)
		if err != nil {
			closeAll(subs)
			return nil, fmt.Errorf("subscribe %s: %w", topic, err)
		}
		subs = append(subs, s)
	}
	return subs, nil
}

func closeAll(subs []Subscription) error {
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
