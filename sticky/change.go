package sticky

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"time"
)

// SetBackends makes the given nodes the nodes of l, beside those that Options.Discover finds. One that was there before, by its URL, keeps
// its sessions and its state. One that is not there any more is cut off at once; [Balancer.ReplaceBackends]
// is gentler. SetBackends returns an error, and
// changes nothing, where a URL makes no sense or is given twice, or l is closed.
func (l *Balancer) SetBackends(backends ...Backend) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.replace(-1, backends)
}

// ReplaceBackends is [Balancer.SetBackends], but a node that is not there any more is drained first: it keeps its
// sessions and gets no new ones. It is cut off after grace, or as soon as nothing goes to it any more; the limit acts up
// to a second late. ReplaceBackends does not wait for that. A node that comes back meanwhile is one of the nodes again, and loses nothing.
func (l *Balancer) ReplaceBackends(grace time.Duration, backends ...Backend) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.replace(grace, backends)
}

// replace sets the backends that are not found by discovery. l.changing is held.
func (l *Balancer) replace(grace time.Duration, fixed []Backend) error {
	if _, _, err := distinct(fixed, false); err != nil {
		return err
	}
	if err := l.setBackends(grace, fixed); err != nil {
		return err
	}
	l.fixed = slices.Clone(fixed)
	return nil
}

// distinct reads the URLs of backends. One that is given twice is an error, or else left out the second time.
func distinct(backends []Backend, twice bool) (specs []Backend, urls []*url.URL, err error) {
	seen := make(map[string]bool)
	for _, spec := range backends {
		u, err := spec.parse()
		if err != nil {
			return nil, nil, err
		}
		if seen[u.String()] {
			if twice {
				continue
			}
			return nil, nil, errors.New("sticky: backend " + u.String() + " is given twice")
		}
		seen[u.String()] = true
		specs, urls = append(specs, spec), append(urls, u)
	}
	return specs, urls, nil
}

// setBackends makes the given backends, and those that were found, the nodes of l. l.changing is held.
func (l *Balancer) setBackends(grace time.Duration, fixed []Backend) error {
	specs := fixed
	for _, f := range l.found {
		specs = append(slices.Clip(specs), f.now...)
	}
	specs, urls, err := distinct(specs, true)
	if err != nil {
		return err
	}
	limits := &l.rules().Limits
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("sticky: SetBackends: %w", errClosed)
	}
	old := make(map[string]*backend)
	for _, b := range l.view.Load().list {
		old[b.url.String()] = b
	}
	var list, added []*backend
	for i, u := range urls {
		b := old[u.String()]
		if b == nil {
			b = l.newBackend(u, specs[i].Name)
			added = append(added, b)
		}
		delete(old, u.String())
		b.apply(specs[i], limits)
		list = append(list, b)
	}
	if grace > 0 {
		until := time.Now().Add(grace)
		for _, b := range l.view.Load().list {
			if old[b.url.String()] != nil && b.depart(until) {
				list = append(list, b)
				delete(old, b.url.String())
			}
		}
	}
	for _, b := range added {
		b.start()
	}
	l.setView(list)
	l.mu.Unlock()
	l.cutOff(old)
	return nil
}

// cutOff ends backends that are in no view any more.
func (l *Balancer) cutOff(old map[string]*backend) {
	for _, b := range old {
		b.remove(errDown)
	}
	for _, b := range old {
		<-b.done
		b.transport.CloseIdleConnections()
		b.pool.close()
		b.forget()
	}
}

// retire cuts off the backends that are being taken away and have no more time, or nothing that needs it.
func (l *Balancer) retire(now time.Time) {
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return
	}
	var list []*backend
	gone := make(map[string]*backend)
	for _, b := range l.view.Load().list {
		if b.left(now) {
			gone[b.url.String()] = b
		} else {
			list = append(list, b)
		}
	}
	if len(gone) > 0 {
		l.setView(list)
	}
	l.mu.Unlock()
	l.cutOff(gone)
	for _, b := range gone {
		l.o.Logger.Info("sticky: node is taken away", "node", b.url.Host)
	}
}

// depart says that b is taken away at the given time, or at an earlier one if it was said before. It reports false where it is down anyhow.
func (b *backend) depart(until time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alive != Up {
		return false
	}
	if b.leaves.IsZero() {
		b.leaves = until
	}
	b.settle()
	return true
}

// left reports whether b, if it is being taken away, can be cut off now.
func (b *backend) left(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leaves.IsZero() {
		return false
	}
	return b.alive != Up || !now.Before(b.leaves) || b.load() == 0 && b.active.Load() == 0 && b.sockets.Load() == 0
}

// Reconfigure takes over those fields of opts that can be changed while l runs: Backends, Affinity, Policy,
// HashLoad, SlowStart, Limits, RetryShare, RemoveAfter, Health, Passive and TrustedProxies. Sessions, connections and
// requests go on; backends that are not there any more are taken away as with [Balancer.ReplaceBackends], after RemoveAfter.
// It returns the names of other fields that differ from those in force, which take a restart. On an error, nothing has changed.
func (l *Balancer) Reconfigure(opts *Options) (restart []string, err error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	defer func() {
		if err == nil {
			l.changes.Add(1)
		} else {
			l.failures.Add(1)
		}
	}()
	o, err := opts.fill()
	if err != nil {
		return nil, err
	}
	if _, _, err := distinct(o.Backends, false); err != nil {
		return nil, err
	}
	before := l.rules()
	next := l.o
	next.Backends, next.Affinity, next.Policy, next.HashLoad = o.Backends, o.Affinity, o.Policy, o.HashLoad
	next.SlowStart, next.Limits, next.RetryShare, next.RemoveAfter = o.SlowStart, o.Limits, o.RetryShare, o.RemoveAfter
	next.Health, next.Passive, next.TrustedProxies = o.Health, o.Passive, o.TrustedProxies
	l.live.Store(&next)
	if err := l.replace(next.RemoveAfter, next.Backends); err != nil {
		l.live.Store(before)
		return nil, err
	}
	for _, b := range l.view.Load().list {
		b.suspect() // so that another interval of checks acts at once
	}
	return differing(&next, &o), nil
}

// ReloadFailed counts, for [Balancer.Metrics], a configuration that made no sense before there were options to call Reconfigure with.
func (l *Balancer) ReloadFailed() { l.failures.Add(1) }

// differing returns the names of the fields of plain values that differ between a and b.
func differing(a, b *Options) (names []string) {
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		name := x.Type().Field(i).Name
		switch name {
		case "Fallback", "TLS", "Logger", "AccessLog", "Discover":
			continue // cannot be compared; whoever sets them knows
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	return names
}
