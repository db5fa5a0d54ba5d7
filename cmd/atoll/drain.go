package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/internal/remote"
)

const (
	drainLook  = 500 * time.Millisecond // between two questions how far a node is
	drainPause = 5 * time.Second        // that a node may be silent before that is said
)

// A drainer is the command `atoll drain`.
type drainer struct {
	busFlags
	json, noWait, undo bool
	timeout            time.Duration
	lead, window       time.Duration
	rate               float64
	said               func(name string) bool // whether a flag was given
	out                io.Writer
	em                 *emitter.Emitter
}

func drainCommand() *cobra.Command {
	var d drainer
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Empty a node: its clients go to others",
		Long: `drain asks a node to empty itself, over the cluster, and shows how far that is. NODE is its name, its id
or the beginning of that, or the tag in its session ids (atoll nodes shows them). The node says 503 at /health, then
asks its clients to go, at a pace; they connect anew by themselves, elsewhere, with their sessions where the nodes
keep them. It goes on running, empty, until it is ended, or --undo brings it back.

Whoever can publish on the cluster's bus can do this, as they can disconnect clients; a node with
atoll.DrainOptions.Local does not obey. It ends with status 3 when the node does not answer.`,
		Example: `  atoll drain web-2                                   as the node is set to do it
  atoll drain web-2 --bus redis://localhost:6379 --rate 100
  atoll drain web-2 --lead 0 --window 0               all at once; also speeds up a drain that goes on
  atoll drain web-2 --undo`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("which node? Name it by its name or id: atoll drain web-2 (`atoll nodes` shows them)")
			}
			return nil
		},
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			d.said, d.out = cmd.Flags().Changed, cmd.OutOrStdout()
			if d.undo && (d.said("lead") || d.said("window") || d.said("rate")) {
				return usagef("--undo goes with none of --lead, --window and --rate")
			}
			if d.lead < 0 || d.window < 0 || d.rate < 0 {
				return usagef("--lead, --window and --rate cannot be negative; 0 is none")
			}
			ctx := cmd.Context()
			bus, err := d.reach(ctx)
			if err != nil {
				return err
			}
			defer bus.close()
			d.em, err = emitter.Connect(ctx, bus.Bus, &emitter.Options{Key: key(), Settle: lookSettle, Timeout: d.timeout, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
			}
			defer d.em.Close()
			return d.drain(ctx, args[0])
		},
	}
	f := cmd.Flags()
	d.busFlags.register(f)
	f.BoolVar(&d.json, "json", false, "one JSON object on each line, for programs")
	f.BoolVar(&d.noWait, "no-wait", false, "do not wait until the node is empty")
	f.BoolVar(&d.undo, "undo", false, "the node takes sessions again")
	waitVar(f, &d.timeout, "timeout", 5*time.Second, "how long answers are waited for")
	f.DurationVar(&d.lead, "lead", 0, "how long its /health says 503 before clients are asked to go (default: what the node is set to)")
	f.DurationVar(&d.window, "window", 0, "within which time they are asked; those left at its end are cut off (default: what the node is set to)")
	f.Float64Var(&d.rate, "rate", 0, "how many clients are asked in a second, at most (default: what the node is set to)")
	return cmd
}

// drain does what the command says with the node that is called so.
func (d *drainer) drain(ctx context.Context, name string) error {
	reports, last := d.ask(ctx, &remote.DrainOrder{}, "")
	n, err := choose(reports, name)
	if err != nil {
		if last != nil {
			return errors.Join(err, incomplete(last))
		}
		return err
	}
	o := &remote.DrainOrder{Node: n.ID, Do: remote.Begin, Rate: d.rate}
	if d.undo {
		o.Do = remote.Undo
	}
	if d.said("lead") {
		o.Lead = inMillis(d.lead)
	}
	if d.said("window") {
		o.Window = inMillis(d.window)
	}
	reports, last = d.ask(ctx, o, n.ID)
	i := slices.IndexFunc(reports, func(r remote.DrainReport) bool { return r.ID == n.ID })
	if i < 0 {
		if last == nil {
			last = errors.New("it has left the cluster")
		}
		return incompleteError{fmt.Errorf("%s does not answer: %w", nodeName(n), last)}
	}
	if reports[i].Error != "" {
		return fmt.Errorf("%s refuses: %s", nodeName(n), safe(reports[i].Error))
	}
	if d.undo {
		return d.say(&reports[i], nodeName(n)+" takes sessions again")
	}
	return d.follow(ctx, &reports[i])
}

// follow says how far a node is until it is empty.
func (d *drainer) follow(ctx context.Context, n *remote.DrainReport) error {
	name, heard, begun := nodeName(n), time.Now(), n.Cut
	before := ""
	for {
		text := progress(n, begun)
		if text != before {
			before = text
			if err := d.say(n, name+": "+text); err != nil {
				return err
			}
		}
		if d.noWait || n.State == "drained" || n.State == "shutting down" && n.Left == 0 {
			return nil
		}
		if n.State == "serving" {
			return fmt.Errorf("%s takes sessions again: somebody has given up the drain", name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s goes on draining; --undo ends that", name)
		case <-time.After(drainLook):
		}
		reports, last := d.ask(ctx, &remote.DrainOrder{}, n.ID)
		i := slices.IndexFunc(reports, func(r remote.DrainReport) bool { return r.ID == n.ID })
		switch {
		case i >= 0:
			n, heard = &reports[i], time.Now()
		case !slices.ContainsFunc(d.em.Peers(), isNode(n.ID)):
			return d.say(n, name+" has left the cluster")
		case time.Since(heard) > max(drainPause, d.timeout):
			if last == nil {
				last = errors.New("no answer")
			}
			return incompleteError{fmt.Errorf("%s does not answer any more: %w", name, incomplete(last))}
		}
	}
}

// ask sends an order to all nodes and returns what they say; with an id, no longer than until that one has answered.
func (d *drainer) ask(ctx context.Context, o *remote.DrainOrder, id string) (reports []remote.DrainReport, last error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	for args, err := range d.em.ServerSide().AskAll(ctx, remote.Drain, o) {
		if err != nil {
			return reports, err
		}
		var r remote.DrainReport
		if args.Decode(0, &r) != nil || r.ID == "" {
			continue // somebody else's event
		}
		reports = append(reports, r)
		if r.ID == id {
			break
		}
	}
	return reports, nil
}

// say prints a report, or text for people.
func (d *drainer) say(n *remote.DrainReport, text string) error {
	if d.json {
		return json.NewEncoder(d.out).Encode(n)
	}
	_, err := fmt.Fprintln(d.out, text)
	return err
}

// progress says in words how far a node is. cut is how many it had cut off before.
func progress(n *remote.DrainReport, cut int64) string {
	switch n.State {
	case "announced":
		return fmt.Sprintf("/health says 503, %s there", number(n.Left, "session"))
	case "draining":
		return number(n.Left, "session") + " left"
	case "drained":
		if c := n.Cut - cut; c > 0 {
			return fmt.Sprintf("drained; %d did not go in time and were cut off", c)
		}
		return "drained"
	}
	return safe(n.State)
}

func nodeName(n *remote.DrainReport) string {
	if n.Name != "" {
		return safe(n.Name)
	}
	return safe(n.ID)
}

// choose returns the node that is called name: by its name, its id or the beginning of that, or its tag.
func choose(reports []remote.DrainReport, name string) (*remote.DrainReport, error) {
	var found, begin []*remote.DrainReport
	var names []string
	for i := range reports {
		r := &reports[i]
		names = append(names, nodeName(r))
		switch {
		case r.Name == name || r.ID == name || strings.EqualFold(r.Tag, name):
			found = append(found, r)
		case len(name) >= 4 && strings.HasPrefix(r.ID, name):
			begin = append(begin, r)
		}
	}
	if len(found) == 0 {
		found = begin
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		ids := make([]string, len(found))
		for i, r := range found {
			ids[i] = safe(r.ID)
		}
		return nil, fmt.Errorf("%d nodes are called %s: name one by its id: %s", len(found), safe(name), strings.Join(ids, ", "))
	case len(names) == 0:
		return nil, errors.New("no Atoll node answers. Is the bus right?")
	}
	slices.Sort(names)
	return nil, fmt.Errorf("no node is called %s; there are: %s", safe(name), strings.Join(names, ", "))
}

// inMillis is a duration as an order has it, where 0 is what the node is set to.
func inMillis(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return max(d.Milliseconds(), 1)
}

func isNode(id string) func(cluster.Member) bool {
	return func(m cluster.Member) bool { return m.ID == id }
}
