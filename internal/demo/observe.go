package demo

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

const (
	frame   = 40 * time.Millisecond // the shortest pause between two pictures
	maxHops = 60                    // in one picture; what is beyond is counted, not drawn
)

// An observer is the parent as a member of the cluster: it hears what the nodes report
// and what is said, and shows both to the browsers that look on.
type observer struct {
	srv     *atoll.Server
	ns      *atoll.Namespace
	sup     *Supervisor
	url     string
	bus     string
	began   time.Time
	changed chan struct{} // has room for one

	mu      sync.Mutex
	reports map[string]*Report // of nodes that are up, by name
	where   map[string]string  // tab -> the node that it was on last
	past    uint64             // deliveries of processes that are gone
	said    uint64
	moved   uint64
	hops    []hop
	recent  memory // to count a line that was said again once
}

const maxTabs = 10_000 // whose last node is known

func newObserver(node *cluster.Node, sup *Supervisor, url, bus string) *observer {
	o := &observer{
		srv: atoll.NewServer(&atoll.Options{Cluster: node}), sup: sup, url: url, bus: bus, began: time.Now(),
		changed: make(chan struct{}, 1), reports: make(map[string]*Report), where: make(map[string]string),
	}
	o.ns = o.srv.Of(observed)
	o.ns.OnConnect(func(ctx context.Context, s *atoll.Socket) error { return state.Emit(ctx, s, o.view()) })
	atoll.OnServer(o.ns, report, o.heard)
	atoll.OnServer(o.srv.Of("/"), remember, o.heardSaid)
	o.srv.Of("/").Use(func(context.Context, *atoll.Socket) error {
		return &atoll.ConnectError{Message: "the chat is at /socket.io/, this is the view of the cluster: connect to " + observed}
	})
	// A question of a new node: who has no memory answers with nothing.
	atoll.AnswerServer(o.srv.Of("/"), memories, func(context.Context, event.None) ([]Message, error) { return nil, nil })
	return o
}

func (o *observer) tell() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

func (o *observer) heard(_ context.Context, r Report) error {
	if !o.sup.runs(r.Name, r.PID) {
		return nil // a report of a process that is gone, and was counted when it went
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r.Clients = r.Clients[:min(len(r.Clients), maxNode)]
	slices.SortFunc(r.Clients, func(a, b Client) int { return strings.Compare(a.Tab, b.Tab) })
	old := o.reports[r.Name]
	if old != nil && old.PID != r.PID { // a new process
		o.past += old.Delivered
	}
	o.reports[r.Name] = &r
	for _, c := range r.Clients {
		before, known := o.where[c.Tab]
		if known && before != r.Name {
			o.moved++
		}
		if known || len(o.where) < maxTabs {
			o.where[c.Tab] = r.Name
		}
	}
	o.tell()
	return nil
}

func (o *observer) heardSaid(_ context.Context, m Message) error {
	if !o.recent.add(m) {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said++
	if len(o.hops) < maxHops {
		o.hops = append(o.hops, hop{Tab: m.Tab, Node: m.Node})
	}
	o.tell()
	return nil
}

// view draws the picture of the moment.
func (o *observer) view() view {
	nodes := o.sup.Nodes()
	o.mu.Lock()
	defer o.mu.Unlock()
	v := view{
		Uptime: time.Since(o.began).Milliseconds(), URL: o.url, Bus: o.bus,
		Said: o.said, Moved: o.moved, Nodes: make([]nodeView, len(nodes)),
	}
	for i, n := range nodes {
		nv := nodeView{Name: n.Name, State: n.State, PID: n.PID, Exit: n.Exit, Clients: []Client{}}
		r := o.reports[n.Name]
		if r != nil && (r.PID != n.PID || n.State == Down) { // of a process that is gone
			o.past += r.Delivered
			delete(o.reports, n.Name)
			r = nil
		}
		if n.State == Up {
			nv.Uptime = time.Since(n.Started).Milliseconds()
		}
		if r != nil && n.State == Up {
			nv.Heap, nv.Clients = r.Heap, r.Clients
			v.Delivered += r.Delivered
		}
		v.Nodes[i] = nv
	}
	v.Delivered += o.past
	return v
}

// run sends pictures while there is something new, and one each second at least, until ctx ends.
func (o *observer) run(ctx context.Context) {
	idle := time.NewTicker(time.Second)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.changed:
		case <-idle.C:
		}
		o.mu.Lock()
		batch := o.hops
		o.hops = nil
		o.mu.Unlock()
		// Both go to browsers of this process only; an error says that an argument cannot be encoded.
		_ = state.Emit(ctx, o.ns.Local(), o.view())
		if len(batch) > 0 {
			_ = hops.Emit(ctx, o.ns.Local(), batch)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(frame):
		}
	}
}
