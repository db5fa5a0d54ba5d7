package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/emitter"
)

func emitCommand() *cobra.Command {
	var (
		b             busFlags
		nsp           string
		rooms, except []string
		volatile      bool
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "emit EVENT [JSON...]",
		Short: "Send an event to the clients of a running cluster",
		Long: `emit sends one event to the clients of a cluster, and ends. Each argument of the event is
JSON; a text needs its quotes, so the shell needs quotes around them.

Over Redis it writes what @socket.io/redis-emitter writes, so it reaches the clients of
Node.js servers too. That it was published does not say that anybody was there to get it.`,
		Example: `  atoll emit news '{"title":"Hello"}'                      the cluster on this machine
  atoll emit said '"hello"' 42 --nsp /chat --room lobby
  atoll emit said '"hello"' --room a,b --except c
  atoll emit news '[1,2,3]' --redis redis://localhost:6379`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which event? For instance: atoll emit news '{\"title\":\"Hello\"}'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			values, size, err := jsonArgs(args[1:])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			bus, err := b.reach(ctx)
			if err != nil {
				return err
			}
			e := emitter.New(bus.Bus, nil).Of(nsp).To(rooms...).Except(except...)
			if volatile {
				e = e.Volatile()
			}
			err = e.Emit(ctx, args[0], values...)
			if closeErr := bus.close(); err == nil {
				err = closeErr // it may still have been on its way
			}
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				return fmt.Errorf("%s did not take the event within %v: is it reachable? --timeout waits longer (%w)", bus.name, timeout, err)
			case err != nil:
				return fmt.Errorf("not published over %s: %w", bus.name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Published %q with %s to %s of %s, over %s.\n",
				args[0], describeArgs(len(values), size), describeRooms(rooms, except), namespaceName(nsp), bus.name)
			return nil
		},
	}
	f := cmd.Flags()
	b.register(f)
	f.StringVar(&nsp, "nsp", "/", "namespace")
	f.StringSliceVarP(&rooms, "room", "r", nil, "only clients in one of these rooms (a client's id is a room)")
	f.StringSliceVar(&except, "except", nil, "but none in one of these")
	f.BoolVar(&volatile, "volatile", false, "may be dropped where it would have to wait")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "give up after this time")
	return cmd
}

// jsonArgs returns the arguments of the event, and their size in bytes.
func jsonArgs(args []string) (values []any, size int, err error) {
	for i, a := range args {
		if !json.Valid([]byte(a)) {
			quoted, _ := json.Marshal(a)
			return nil, 0, usagef("argument %d is not JSON: %s\nA text needs quotes of its own: '%s'", i+1, a, quoted)
		}
		values = append(values, json.RawMessage(a))
		size += len(a)
	}
	return values, size, nil
}

func describeArgs(n, size int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return fmt.Sprintf("1 argument (%d bytes)", size)
	}
	return fmt.Sprintf("%d arguments (%d bytes)", n, size)
}

func describeRooms(rooms, except []string) string {
	s := "all clients"
	if len(rooms) > 0 {
		s = "the clients in " + strings.Join(rooms, ", ")
	}
	if len(except) > 0 {
		s += " that are not in " + strings.Join(except, ", ")
	}
	return s
}

func namespaceName(nsp string) string { return "/" + strings.TrimPrefix(nsp, "/") }
