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

	gaveUp bool // the context of who opened it has ended
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
			if o.gaveUp && ctx.Err() == nil { // who tried before had no time left; we have
				return n.Open(ctx, namespace)
			}
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
		n.attend(namespace)
	}
	o.err, o.gaveUp = err, err != nil && ctx.Err() != nil
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
	err := closeAll(subs)
	n.neglect(namespace)
	n.unfollow(namespace)
	return err
}

// unfollow forgets how far the log was performed where it is a namespace's alone. What is on the loop has its turn
// before.
func (n *Node) unfollow(namespace string) {
	log := n.logbook.log
	if log == nil {
		return
	}
	for _, topic := range n.dialect.Topics(n.self.ID, namespace) {
		if !log.Kept(topic) {
			continue
		}
		n.inbox.put(work{hook: func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.namespaces[namespace] == nil { // it was not opened again
				n.logbook.displace(topic)
			}
		}}, 0)
	}
}

// subscribe subscribes to what the dialect wants for namespace, all of it or nothing.
func (n *Node) subscribe(ctx context.Context, namespace string) ([]Subscription, error) {
	var subs []Subscription
	topics := n.dialect.Topics
	if o, ok := n.dialect.(Observable); ok && n.o.Observer {
		topics = o.ObserverTopics
	}
	for _, topic := range topics(n.self.ID, namespace) {
		s, err := n.listen(ctx, topic)
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
