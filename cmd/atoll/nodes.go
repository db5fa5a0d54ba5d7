package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/remote"
)

func nodesCommand() *cobra.Command {
	var l lookFlags
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "The nodes of a cluster, and how fast they answer",
		Long: `nodes asks all nodes of a cluster how many clients they have in a namespace, and prints who
they are and how long each took to answer. Nodes of Node.js do not tell their names; they are
found by their answers, if they have the namespace.

It ends with status 3 when a node did not answer in time.`,
		Example: `  atoll nodes                                     the cluster on this machine
  atoll nodes --bus redis://localhost:6379
  atoll nodes --json | jq -r .name`,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			bus, err := l.reach(ctx)
			if err != nil {
				return err
			}
			defer bus.close()
			node, err := cluster.Join(ctx, bus.Bus, &cluster.Options{Observer: true, Key: key(), Settle: lookSettle, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
			}
			defer node.Close()
			return l.nodes(ctx, node, cmd.OutOrStdout())
		},
	}
	l.register(cmd.Flags())
	return cmd
}

// A nodeLine is what is printed of a node.
type nodeLine struct {
	ID      string     `json:"id,omitempty"`
	Name    string     `json:"name,omitempty"`
	Started *time.Time `json:"started,omitempty"`
	Version int        `json:"version,omitempty"` // of the native format
	Clients *int       `json:"clients,omitempty"`
	// AnswerMs is how long the answer took, in milliseconds.
	AnswerMs *float64 `json:"answerMs,omitempty"`
	// State is whether it is being drained; Atoll nodes tell.
	State string `json:"state,omitempty"`
}

func (l *lookFlags) nodes(ctx context.Context, node *cluster.Node, w io.Writer) error {
	nsp := namespaceName(l.nsp)
	if err := node.Open(ctx, nsp); err != nil {
		return err
	}
	var lines []*nodeLine
	for _, m := range node.Peers() {
		lines = append(lines, &nodeLine{ID: m.ID, Name: m.Name, Started: &m.Started, Version: m.Version})
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	begun := time.Now()
	var last error
	for a, err := range node.Ask(ctx, &cluster.Op{Kind: cluster.Count, Namespace: nsp}) {
		if err != nil {
			last = err
			break
		}
		ms := float64(time.Since(begun).Microseconds()) / 1000
		var n *nodeLine
		if i := slices.IndexFunc(lines, func(n *nodeLine) bool { return n.ID == a.Node && a.Node != "" }); i >= 0 {
			n = lines[i]
		} else {
			n = &nodeLine{ID: a.Node}
			lines = append(lines, n)
		}
		n.Clients, n.AnswerMs = &a.Clients, &ms
	}
	l.states(ctx, node, lines)
	if len(lines) == 0 && last == nil && !l.json {
		fmt.Fprintf(w, "No node answers. Is the namespace %s right, and the bus?\n", safe(nsp))
		return nil
	}
	if err := l.printNodes(w, lines); err != nil {
		return err
	}
	return incomplete(last)
}

// stateTimeout is how long is waited for nodes that do not tell their state: they may be of Node.js.
const stateTimeout = time.Second

// states asks the nodes whether they are being drained.
func (l *lookFlags) states(ctx context.Context, node *cluster.Node, lines []*nodeLine) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	left := 0
	for _, n := range lines {
		if n.Started != nil && n.Clients != nil {
			left++
		}
	}
	data, _, err := event.AppendEvent(nil, nil, remote.Drain, &remote.DrainOrder{})
	if err != nil || left == 0 || node.Open(ctx, "/") != nil {
		return
	}
	for a, err := range node.Ask(ctx, &cluster.Op{Kind: cluster.ServerAsk, Namespace: "/", Data: data}) {
		if err != nil {
			return // it is not worth a word
		}
		var rs []remote.DrainReport
		if json.Unmarshal(a.Data, &rs) != nil || len(rs) != 1 {
			continue
		}
		if i := slices.IndexFunc(lines, func(n *nodeLine) bool { return n.ID == rs[0].ID }); i >= 0 && lines[i].State == "" {
			lines[i].State = rs[0].State
			if left--; left == 0 {
				return
			}
		}
	}
}

var nodeColumns = []column{{title: "NAME", width: 30}, {title: "ID", width: 10}, {title: "UP", width: 6, right: true},
	{title: "CLIENTS", width: 8, right: true}, {title: "ANSWER", width: 9, right: true}, {title: "FORMAT", width: 8}, {title: "STATE"}}

func (l *lookFlags) printNodes(w io.Writer, lines []*nodeLine) error {
	if l.json {
		for _, n := range lines {
			if err := printJSON(w, n); err != nil {
				return err
			}
		}
		return nil
	}
	if err := header(w, nodeColumns); err != nil {
		return err
	}
	for _, n := range lines {
		name, up, format, clients, answer := n.Name, "", "official", "", "none"
		if name == "" {
			name = "(a node without a name)"
		}
		if n.Started != nil {
			up, format = ago(time.Since(*n.Started)), fmt.Sprintf("atoll %d", n.Version)
		}
		if n.Clients != nil {
			clients, answer = fmt.Sprint(*n.Clients), fmt.Sprintf("%.1f ms", *n.AnswerMs)
		}
		if err := row(w, nodeColumns, name, strings.ToValidUTF8(n.ID, ""), up, clients, answer, format, n.State); err != nil {
			return err
		}
	}
	return nil
}
