package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

func roomsCommand() *cobra.Command {
	var (
		l     lookFlags
		order string
		limit int
	)
	cmd := &cobra.Command{
		Use:   "rooms",
		Short: "The rooms of a cluster, and how many clients are in each",
		Long: `rooms lists the rooms of a namespace with how many clients are in each, and on which nodes. The
room that each client has for itself is left out.

It ends with status 3 when a node did not answer in time.`,
		Example: `  atoll rooms                                     of the cluster on this machine
  atoll rooms --namespace /chat --sort name
  atoll rooms --json --bus nats://localhost:4222 | jq -r .room`,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if order != "members" && order != "name" {
				return usagef("--sort is members or name, got %q", order)
			}
			return l.ask(cmd.Context(), func(ctx context.Context, em *emitter.Emitter, names map[string]string) error {
				rooms, err := gather(em.Fetch(ctx, cluster.FieldRooms), names)
				list := slices.Collect(maps.Values(rooms))
				slices.SortFunc(list, func(a, b *roomLine) int {
					if order == "members" && a.Members != b.Members {
						return b.Members - a.Members
					}
					return cmp.Compare(a.Room, b.Room)
				})
				if limit > 0 && len(list) > limit {
					list = list[:limit]
				}
				if printErr := printRooms(cmd.OutOrStdout(), list, l.json); printErr != nil {
					return printErr
				}
				return incomplete(err)
			})
		},
	}
	f := cmd.Flags()
	l.register(f)
	f.StringVar(&order, "sort", "members", "what the list is sorted by: members or name")
	f.IntVar(&limit, "limit", 0, "print only as many (default: all)")
	return cmd
}

// A roomLine is what is printed of a room.
type roomLine struct {
	Room    string   `json:"room"`
	Members int      `json:"members"`
	Nodes   []string `json:"nodes,omitempty"` // their names
}

// gather counts the members of rooms; the error that ended it says that some are missing.
func gather(all func(func(emitter.Socket, error) bool), names map[string]string) (map[string]*roomLine, error) {
	rooms := make(map[string]*roomLine)
	for s, err := range all {
		if err != nil {
			return rooms, err
		}
		node := names[s.Node]
		if node == "" {
			node = s.Node
		}
		for _, name := range s.Rooms {
			if name == s.ID {
				continue
			}
			r := rooms[name]
			if r == nil {
				r = &roomLine{Room: name}
				rooms[name] = r
			}
			r.Members++
			if node != "" && !slices.Contains(r.Nodes, node) {
				r.Nodes = append(r.Nodes, node)
			}
		}
	}
	return rooms, nil
}

var roomColumns = []column{{title: "ROOM", width: 32}, {title: "MEMBERS", width: 8, right: true}, {title: "NODES"}}

func printRooms(w io.Writer, list []*roomLine, asJSON bool) error {
	if asJSON {
		for _, r := range list {
			slices.Sort(r.Nodes)
			if err := printJSON(w, r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No client is in a room.")
		return err
	}
	if err := header(w, roomColumns); err != nil {
		return err
	}
	for _, r := range list {
		slices.Sort(r.Nodes)
		if err := row(w, roomColumns, r.Room, strconv.Itoa(r.Members), strings.Join(r.Nodes, ", ")); err != nil {
			return err
		}
	}
	return nil
}
