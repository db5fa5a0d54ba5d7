package natsbus

import (
	"context"
	"os"
	"slices"
	"time"
)

const (
	lookOften  = 100 * time.Millisecond // while the node is young
	lookSeldom = time.Second
	young      = 3 * time.Second
	touchEvery = 10 * time.Minute
)

// find makes the node known on this machine and meets the others that are there.
func (e *Embedded) find(ctx context.Context) error {
	if e.dir.path != "" {
		e.record = record{
			Name: e.name, Route: e.server.ClusterAddr().String(), Client: e.server.Addr().String(),
			PID: os.Getpid(), Started: time.Now(),
		}
		var err error
		if e.entry, err = e.dir.register(e.record); err != nil {
			return err
		}
		e.finder.Go(e.look)
	}
	return e.meet(ctx)
}

// look keeps the routes to the nodes of this machine in step with who lives.
//
// Of two nodes the younger makes the route: it has surely seen the older's file, and two that
// connect to each other at once get in each other's way. Where that does not
// work, the older tries too.
func (e *Embedded) look() {
	var routes []string
	unmet := make(map[string]time.Time)
	touched := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-e.stop:
			return
		}
		now := time.Now()
		if want := e.wanted(now, unmet); !slices.Equal(want, routes) {
			if err := e.route(want); err != nil {
				e.log.Error("natsbus: the routes to other nodes of this machine could not be set", "err", err)
			}
			routes = want
		}
		if now.Sub(touched) > touchEvery {
			touched = now
			if !e.dir.touch(e.entry) {
				e.reenter()
			}
		}
		if now.Sub(e.record.Started) < young {
			timer.Reset(lookOften)
		} else {
			timer.Reset(lookSeldom)
		}
	}
}

// wanted returns the addresses of the nodes that this one should have a route to by its own doing.
func (e *Embedded) wanted(now time.Time, unmet map[string]time.Time) []string {
	records, err := e.dir.living()
	if err != nil {
		e.reenter()
		return nil
	}
	peers := e.Peers()
	var want []string
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		if r.Name == e.name {
			continue
		}
		seen[r.Name] = true
		if r.before(e.record) {
			want = append(want, r.Route)
			continue
		}
		if slices.Contains(peers, r.Name) {
			delete(unmet, r.Name)
		} else if since, ok := unmet[r.Name]; !ok {
			unmet[r.Name] = now
		} else if now.Sub(since) > meetTimeout {
			want = append(want, r.Route)
		}
	}
	for name := range unmet {
		if !seen[name] {
			delete(unmet, name)
		}
	}
	slices.Sort(want)
	return want
}

// route makes the server keep routes to these addresses, and to those of the options.
func (e *Embedded) route(addresses []string) error {
	o := e.base.Clone()
	key := routeKey(e.o.Cluster, e.o.Secret)
	for _, a := range addresses {
		o.Routes = append(o.Routes, routeURL(a, key))
	}
	return e.server.ReloadOptions(o)
}

// reenter writes the node's file again where something has removed it.
func (e *Embedded) reenter() {
	dir, err := openDirectory(e.dir.path)
	if err == nil {
		_, err = dir.adopt(e.o.Secret)
	}
	if err == nil {
		var entry *registration
		if entry, err = dir.register(e.record); err == nil {
			e.entry.file.Close()
			e.entry = entry
		}
	}
	if err != nil {
		e.log.Error("natsbus: nodes of this machine cannot find this one", "dir", e.dir.path, "err", err)
	}
}

// meet waits until there are routes to the older nodes of this machine, and to
// one of the options' Routes at least, two seconds at most: others may not run yet.
func (e *Embedded) meet(ctx context.Context) error {
	deadline := time.NewTimer(meetTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var names []string
	if e.dir.path != "" {
		records, err := e.dir.living()
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.before(e.record) {
				names = append(names, r.Name)
			}
		}
	}
	for {
		peers := e.Peers()
		met := !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(peers, name) })
		if met && (len(e.o.Routes) == 0 || len(peers) > len(names)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			e.log.Info("natsbus: not all other nodes were met yet", "met", len(peers), "on this machine", len(names), "routes", len(e.o.Routes))
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
