package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

func socketsCommand() *cobra.Command {
	var (
		l             lookFlags
		rooms, except []string
		handshake     bool
		count         bool
		limit         int
	)
	cmd := &cobra.Command{
		Use:   "sockets",
		Short: "The clients that are connected to a cluster",
		Long: `sockets lists the clients of a namespace, on all nodes, as the nodes answer: the id, the node, and
the rooms besides the client's own. With --json also the data that the server keeps of each.

It ends with status 3 when a node did not answer in time.`,
		Example: `  atoll sockets                                   of the cluster on this machine
  atoll sockets --namespace /chat --room lobby
  atoll sockets --count
  atoll sockets --json --bus redis://localhost:6379 | jq -r .id`,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := cmd.OutOrStdout()
			return l.ask(cmd.Context(), func(ctx context.Context, em *emitter.Emitter, names map[string]string) error {
				em = em.In(rooms...).Except(except...)
				if count {
					n, err := em.Count(ctx)
					if printErr := printCount(w, n, l.json); printErr != nil {
						return printErr
					}
					return incomplete(err)
				}
				fields := cluster.FieldRooms
				if l.json {
					fields |= cluster.FieldData
				}
				if handshake {
					fields |= cluster.FieldHandshake
				}
				return printSockets(w, em.Fetch(ctx, fields), names, l.json, handshake, limit)
			})
		},
	}
	f := cmd.Flags()
	l.register(f)
	f.StringSliceVarP(&rooms, "room", "r", nil, "only clients in one of these rooms (a client's id is a room)")
	f.StringSliceVar(&except, "except", nil, "but none in one of these")
	f.BoolVar(&count, "count", false, "only how many there are")
	f.BoolVar(&handshake, "handshake", false, "with --json, also the request of each, cookies and tokens included")
	f.IntVar(&limit, "limit", 0, "end after as many (default: all)")
	return cmd
}

func printCount(w io.Writer, n int, asJSON bool) error {
	if asJSON {
		return printJSON(w, map[string]int{"count": n})
	}
	_, err := fmt.Fprintln(w, n)
	return err
}

// A socketLine is what is printed of a socket.
type socketLine struct {
	ID        string          `json:"id"`
	Node      string          `json:"node,omitempty"`
	Name      string          `json:"name,omitempty"` // of the node
	Rooms     []string        `json:"rooms"`
	Data      json.RawMessage `json:"data,omitempty"`
	Handshake json.RawMessage `json:"handshake,omitempty"`
}

var socketColumns = []column{{title: "ID", width: 20}, {title: "NODE", width: 24}, {title: "ROOMS"}}

func printSockets(w io.Writer, all func(func(emitter.Socket, error) bool), names map[string]string, asJSON, handshake bool, limit int) error {
	n := 0
	for s, err := range all {
		if err != nil {
			return incomplete(err)
		}
		if limit > 0 && n == limit {
			return nil
		}
		if n == 0 && !asJSON {
			if err := header(w, socketColumns); err != nil {
				return err
			}
		}
		n++
		line := socketLine{ID: s.ID, Node: s.Node, Name: names[s.Node], Rooms: slices.DeleteFunc(s.Rooms, func(r string) bool { return r == s.ID })}
		if !asJSON {
			node := line.Name
			if node == "" {
				node = line.Node
			}
			if err := row(w, socketColumns, line.ID, node, strings.Join(line.Rooms, ", ")); err != nil {
				return err
			}
			continue
		}
		if s.Data(&line.Data) != nil {
			line.Data = nil
		}
		if handshake && s.Handshake(&line.Handshake) != nil {
			line.Handshake = nil
		}
		if err := printJSON(w, line); err != nil {
			return err
		}
	}
	if n == 0 && !asJSON {
		_, err := fmt.Fprintln(w, "No client is connected, or none that was asked for.")
		return err
	}
	return nil
}
