package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/sticky"
)

// names are the nodes': atolls of the Tuamotus.
var names = []string{"ahe", "tikei", "makemo", "anaa", "raroia", "hao", "aratika"}

// MaxNodes is how many nodes a demo can have.
var MaxNodes = len(names)

// Options are the settings of [Run].
type Options struct {
	// Host is where to listen. If empty, 127.0.0.1: this machine only.
	Host string

	// Port is the first that is tried, see [Listen]. 0 takes any.
	Port int

	// Nodes is how many there are, 1 to MaxNodes. If zero, 3.
	Nodes int

	// Command is the program that calls RunNode, with its arguments.
	Command []string

	// Out gets the start-up text, Err what nodes write to their standard errors. If nil, nothing is written.
	Out, Err io.Writer

	// Color makes the text colourful.
	Color bool

	// Ready, where set, is called with the address of the page once all nodes serve.
	Ready func(url string)

	// Logger gets what happens. If nil, slog.Default().
	Logger *slog.Logger
}

// Run runs the demo until ctx ends, and returns when all its processes are gone. An
// error says what prevented it, and what to do.
func Run(ctx context.Context, o *Options) error {
	d, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.awaitNodes(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it began
		}
		return err
	}
	d.greet()
	if d.o.Ready != nil {
		d.o.Ready(d.url)
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.o.Out, "\n  Ending the nodes.")
		return nil
	case err := <-d.served:
		return fmt.Errorf("demo: the web server has ended: %w", err)
	}
}

// A demo is one that runs. closers undo its parts, the last first.
type demo struct {
	o        Options
	url      string
	taken    bool
	sup      *Supervisor
	balancer *sticky.Balancer
	changed  chan struct{} // has room for one
	served   chan error    // has room for one
	begun    atomic.Bool   // all nodes have served once
	work     sync.WaitGroup
	closers  []func()
}

func start(ctx context.Context, opts *Options) (_ *demo, err error) {
	d := &demo{o: *opts, changed: make(chan struct{}, 1), served: make(chan error, 1)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := d.fill(); err != nil {
		return nil, err
	}
	l, taken, err := Listen(d.o.Host, d.o.Port)
	if err != nil {
		return nil, err
	}
	d.onClose(func() { _ = l.Close() })
	d.taken, d.url = taken, pageURL(l.Addr())

	where, err := newMeeting()
	if err != nil {
		return nil, err
	}
	d.onClose(func() { _ = os.RemoveAll(where.Dir) })
	member, err := join(ctx, where, "observer", d.o.Logger)
	if err != nil {
		return nil, err
	}
	d.onClose(member.Close)

	d.balancer, err = sticky.New(&sticky.Options{
		Logger: d.o.Logger,
		Health: sticky.Health{Interval: 500 * time.Millisecond, Timeout: time.Second, Rise: 1},
	})
	if err != nil {
		return nil, err
	}
	d.onClose(func() { _ = d.balancer.Close() })

	d.sup = NewSupervisor(SupervisorOptions{
		Names:  names[:d.o.Nodes],
		Config: func(node string) any { return NodeConfig{Name: node, Meeting: where, First: !d.begun.Load()} },
		Command: func(node string) *exec.Cmd {
			cmd := exec.Command(d.o.Command[0], d.o.Command[1:]...)
			cmd.Stderr = &prefixer{to: d.o.Err, prefix: node + ": "}
			return cmd
		},
		Changed: func() {
			select {
			case d.changed <- struct{}{}:
			default:
			}
		},
		Logger: d.o.Logger,
	})
	watch := newObserver(member.Node, d.sup, d.url, busName)
	d.onClose(func() { _ = watch.srv.Close() })
	d.serve(ctx, l, watch)
	return d, nil
}

// serve starts what runs until the demo ends.
func (d *demo) serve(ctx context.Context, l net.Listener, watch *observer) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.work.Go(func() { watch.run(ctx) })
	d.work.Go(func() { d.follow(ctx, watch) })

	host, _, _ := net.SplitHostPort(l.Addr().String())
	addr, err := netip.ParseAddr(host)
	site := &web{balancer: d.balancer, observe: watch.srv, sup: d.sup}
	server := &http.Server{
		Handler:           site.handler(err == nil && addr.IsLoopback()),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(d.o.Logger.Handler(), slog.LevelDebug),
	}
	d.work.Go(func() { d.served <- server.Serve(l) })
	d.onClose(func() {
		d.sup.Close(context.WithoutCancel(ctx))
		cancel()
		_ = server.Close()
		d.work.Wait()
	})
}

// follow tells the balancer which nodes there are, and the picture that something has changed.
func (d *demo) follow(ctx context.Context, watch *observer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.changed:
		}
		var backends []sticky.Backend
		for _, n := range d.sup.Nodes() {
			if n.State == Up {
				backends = append(backends, sticky.Backend{URL: n.URL, Name: n.Name})
			}
		}
		if err := d.balancer.SetBackends(backends...); err != nil {
			d.o.Logger.Error("the balancer did not take the nodes", "err", err)
		}
		watch.tell()
	}
}

// awaitNodes starts all nodes and returns when they serve.
func (d *demo) awaitNodes(ctx context.Context) error {
	for _, n := range d.sup.Nodes() {
		if err := d.sup.Start(n.Name); err != nil {
			return err
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		up := 0
		for _, n := range d.sup.Nodes() {
			switch n.State {
			case Up:
				up++
			case Down:
				return fmt.Errorf("node %s %s before it served; what it wrote stands above", n.Name, n.Exit)
			}
		}
		if up == d.o.Nodes && d.balanced() {
			d.begun.Store(true)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// balanced reports whether the balancer has found all nodes healthy, so that the first
// tabs spread over all of them.
func (d *demo) balanced() bool {
	up := 0
	for _, b := range d.balancer.Status().Backends {
		if b.State == sticky.Up {
			up++
		}
	}
	return up == d.o.Nodes
}

func (d *demo) onClose(f func()) { d.closers = append(d.closers, f) }

func (d *demo) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
}

func (d *demo) fill() error {
	o := &d.o
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Nodes < 0 || o.Nodes > MaxNodes {
		return fmt.Errorf("cannot start %d nodes: choose 1 to %d with --nodes", o.Nodes, MaxNodes)
	}
	if len(o.Command) == 0 {
		return errors.New("demo: Options.Command is empty: it must start the program that calls RunNode")
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	o.Err = &locked{w: o.Err}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// pageURL is what to type into a browser on this machine.
func pageURL(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
