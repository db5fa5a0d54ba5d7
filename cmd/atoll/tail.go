package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/cluster"
)

func tailCommand() *cobra.Command {
	var (
		l       lookFlags
		f       filter
		nsps    []string
		count   int
		seconds time.Duration
	)
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Watch what the nodes of a cluster tell each other",
		Long: `tail prints one line for each operation that goes through a cluster, for each node that
comes or goes, and for messages that were lost on the way, until you end it: the time, who
sent it, what it does, where (the namespace and the rooms, an exclamation mark before those
that are left out), and the event. What does not leave its node is not seen.

Over Postgres in the official format only the namespaces that --namespace names are seen, "/"
if none; over sharded Redis only what is for the rooms that --room names.`,
		Example: `  atoll tail                                      the cluster on this machine
  atoll tail --namespace /chat --room lobby
  atoll tail --bus redis://localhost:6379 --event said,typing
  atoll tail --json --kind member,gap`,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			for i, nsp := range nsps {
				nsps[i] = namespaceName(nsp)
			}
			f.nsps = nsps
			for _, k := range f.kinds {
				if !slices.Contains(kinds, k) {
					return usagef("there is no kind %q: choose from %s", k, strings.Join(kinds, ", "))
				}
			}
			ctx := cmd.Context()
			if seconds > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, seconds)
				defer cancel()
			}
			return l.tail(ctx, &f, count, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	l.busFlags.register(fs)
	fs.BoolVar(&l.json, "json", false, "one JSON object on each line, for programs")
	fs.StringSliceVarP(&nsps, "namespace", "n", nil, "only these namespaces (default: all)")
	fs.StringSliceVarP(&f.rooms, "room", "r", nil, "only what is for one of these rooms")
	fs.StringSliceVarP(&f.events, "event", "e", nil, "only these events")
	fs.StringSliceVarP(&f.kinds, "kind", "k", nil, "only these kinds: "+strings.Join(kinds, ", "))
	fs.BoolVar(&f.answers, "answers", false, "print the answers to questions, too")
	fs.IntVarP(&count, "count", "c", 0, "end after as many lines (default: never)")
	fs.DurationVar(&seconds, "for", 0, "end after this time (default: never)")
	return cmd
}

// tail prints until ctx ends, or count lines were printed.
func (l *lookFlags) tail(ctx context.Context, f *filter, count int, out, errs io.Writer) error {
	bus, err := l.reach(ctx)
	if err != nil {
		return err
	}
	defer bus.close()
	t := &tail{filter: f, names: make(map[string]string), json: l.json, width: screen(out), lines: newQueue()}
	node, err := cluster.Join(ctx, bus.Bus, &cluster.Options{
		Observer: true, Key: key(), Logger: slog.Default(), Settle: -1,
		OnMessage: t.message, OnMember: t.member, OnLeave: t.left, OnGap: t.gap,
	})
	if err != nil {
		return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
	}
	defer node.Close()
	if err := node.Attach(t); err != nil {
		return err
	}
	open := f.nsps
	if len(open) == 0 {
		open = []string{"/"}
	}
	for _, nsp := range open {
		if err := node.Open(ctx, nsp); err != nil {
			return fmt.Errorf("cannot listen to %s over %s: %w", safe(nsp), bus.name, err)
		}
	}
	if bus.blind != "" {
		subs, err := t.enter(ctx, bus, open, f.rooms)
		if err != nil {
			return err
		}
		defer func() {
			for _, s := range subs {
				s.Close()
			}
		}()
		fmt.Fprintln(errs, bus.blind)
	}
	if !l.json {
		fmt.Fprintf(errs, "Watching %s over %s. Ctrl-C ends it.\n", f.what(), bus.name)
	}
	stop := context.AfterFunc(ctx, t.lines.close)
	defer stop()
	for n := 0; count <= 0 || n < count; n++ {
		line, lost := t.lines.take()
		if lost > 0 {
			fmt.Fprintf(errs, "%s were not printed: they came faster than they could be.\n", number(lost, "line"))
		}
		if line == nil {
			break
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	if s := node.Stats(); !l.json && (s.Malformed > 0 || s.Dropped > 0) {
		fmt.Fprintf(errs, "%s could not be read, %d were dropped.\n", number(int(s.Malformed), "message"), s.Dropped)
	}
	return nil
}

// what says what is watched.
func (f *filter) what() string {
	if len(f.nsps) == 0 {
		return "the cluster"
	}
	return safe(strings.Join(f.nsps, ", "))
}

// enter listens to the channels of rooms, where rooms have some; what comes there does not come to the node.
func (t *tail) enter(ctx context.Context, bus *bus, nsps, rooms []string) ([]cluster.Subscription, error) {
	speaker, ok := bus.Bus.(cluster.Speaker)
	if !ok {
		return nil, nil
	}
	d := speaker.Dialect()
	router, ok := d.(cluster.Router)
	if !ok {
		return nil, nil
	}
	var subs []cluster.Subscription
	for _, nsp := range nsps {
		for _, room := range rooms {
			topic := router.Route(nsp, room)
			if topic == "" {
				continue
			}
			s, err := bus.Subscribe(ctx, topic, func(topic string, data []byte) {
				if m, err := d.Decode("", topic, data); err == nil && m != nil {
					t.message(m)
				}
			})
			if err != nil {
				return subs, fmt.Errorf("cannot listen to the room %s over %s: %w", safe(room), bus.name, err)
			}
			subs = append(subs, s)
		}
	}
	return subs, nil
}

// A tail makes lines of what is heard. Its methods are called by those who hear, so they only queue.
type tail struct {
	filter *filter
	json   bool
	width  int // of the screen; 0 where there is none
	lines  *queue
	died   bool // of the member that leaves; the node's loop's

	mu    sync.Mutex
	names map[string]string // of the nodes, by id
}

func (t *tail) name(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names[id]
}

// Do takes what OnMessage has seen.
func (t *tail) Do(*cluster.Op, func(cluster.Answer)) {}

func (t *tail) message(m *cluster.Message) {
	if e := entryOf(m); e != nil && t.filter.passes(e) {
		e.Name = t.name(e.From)
		t.print(e)
	}
}

func (t *tail) left(_ cluster.Member, died bool) { t.died = died }

func (t *tail) member(m cluster.Member, up bool) {
	e := &entry{Kind: "member", From: m.ID, Name: m.Name, What: "came"}
	t.mu.Lock()
	if up {
		t.names[m.ID] = m.Name
	} else {
		e.What = "left"
		if t.died {
			e.What = "died"
		}
		t.died = false
		delete(t.names, m.ID)
	}
	t.mu.Unlock()
	if t.filter.passes(e) {
		t.print(e)
	}
}

func (t *tail) gap(from string, first, last uint64) {
	e := &entry{Kind: "gap", From: from, Name: t.name(from), First: first, Last: last}
	if t.filter.passes(e) {
		t.print(e)
	}
}

func (t *tail) print(e *entry) {
	e.Time = time.Now()
	if t.json {
		t.lines.put(e.json())
	} else {
		t.lines.put(e.line(t.width))
	}
}

// A queue holds lines that wait to be printed, as many bytes as maxWaiting.
type queue struct {
	mu     sync.Mutex
	some   *sync.Cond
	lines  [][]byte
	bytes  int
	lost   int
	closed bool
}

const maxWaiting = 64 << 20

func newQueue() *queue {
	q := &queue{}
	q.some = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > 0 && q.bytes+len(line) > maxWaiting {
		q.lost++
		return
	}
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	q.some.Signal()
}

// take waits for a line; it returns nil when the queue is closed and empty. lost is how many found no place since.
func (q *queue) take() (line []byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 && !q.closed {
		q.some.Wait()
	}
	lost, q.lost = q.lost, 0
	if len(q.lines) == 0 {
		return nil, lost
	}
	line = q.lines[0]
	q.lines[0] = nil
	q.lines = q.lines[1:]
	q.bytes -= len(line)
	return line, lost
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
