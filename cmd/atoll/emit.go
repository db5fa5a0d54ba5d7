package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/event"
)

func emitCommand() *cobra.Command {
	var (
		b             busFlags
		nsp           string
		rooms, except []string
		volatile      bool
		ask, server   bool
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "emit EVENT [JSON...]",
		Short: "Send an event to the clients of a running cluster",
		Long: `emit sends one event to the clients of a cluster, and ends. Each argument of the event is
JSON; a text needs its quotes, so the shell needs quotes around them.

Over Redis and Postgres it writes what the official emitters write, so it reaches the clients of
Node.js servers too. That it was published does not say that anybody was there to get it.

With --ask it waits for the acks of the clients and prints each as a line of JSON, the array of its
arguments. It ends with status 3 when some did not answer in time.`,
		Example: `  atoll emit news '{"title":"Hello"}'                      the cluster on this machine
  atoll emit said '"hello"' 42 --namespace /chat --room lobby
  atoll emit said '"hello"' --room a,b --except c
  atoll emit news '[1,2,3]' --bus redis://localhost:6379
  atoll emit version --ask --server               what each server answers`,
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
			if server && (len(rooms) > 0 || len(except) > 0 || volatile) {
				return usagef("--room, --except and --volatile are for clients: they do not go with --server")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout+askGrace)
			defer cancel()
			bus, err := b.reach(ctx)
			if err != nil {
				return err
			}
			e := emitter.New(bus.Bus, &emitter.Options{Key: key()})
			if ask {
				if e, err = emitter.Connect(ctx, bus.Bus, &emitter.Options{Key: key(), Settle: lookSettle}); err != nil {
					bus.close()
					return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
				}
			}
			to := e.Of(nsp).To(rooms...).Except(except...).Timeout(timeout)
			if volatile {
				to = to.Volatile()
			}
			switch {
			case ask && server:
				err = printAnswers(cmd.OutOrStdout(), to.ServerSide().AskAll(ctx, args[0], values...))
			case ask:
				err = printAnswers(cmd.OutOrStdout(), to.AskAll(ctx, args[0], values...))
			default:
				err = publish(ctx, timeout, to, server, args[0], values)
			}
			if closeErr := errors.Join(e.Close(), bus.close()); err == nil {
				err = closeErr // it may still have been on its way
			}
			if _, ok := errors.AsType[incompleteError](err); ok {
				return err
			}
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				return fmt.Errorf("%s did not take the event within %v: is it reachable? --timeout waits longer (%w)", bus.name, timeout, err)
			case err != nil:
				return fmt.Errorf("not published over %s: %w", bus.name, err)
			}
			if !ask {
				fmt.Fprintf(cmd.OutOrStdout(), "Published %q with %s to %s of %s, over %s.\n",
					args[0], describeArgs(len(values), size), describeRooms(rooms, except, server), namespaceName(nsp), bus.name)
			}
			return nil
		},
	}
	f := cmd.Flags()
	b.register(f)
	f.StringVarP(&nsp, "namespace", "n", "/", "namespace")
	f.StringSliceVarP(&rooms, "room", "r", nil, "only clients in one of these rooms (a client's id is a room)")
	f.StringSliceVar(&except, "except", nil, "but none in one of these")
	f.BoolVar(&volatile, "volatile", false, "may be dropped where it would have to wait")
	f.BoolVar(&ask, "ask", false, "wait for the acks and print them")
	f.BoolVar(&server, "server", false, "to the servers of the namespace instead of its clients (serverSideEmit)")
	waitVar(f, &timeout, "timeout", 5*time.Second, "give up after this time")
	return cmd
}

const askGrace = 2 * time.Second // for what comes before and behind the question

// publish emits within a time limit.
func publish(ctx context.Context, timeout time.Duration, to *emitter.Emitter, server bool, name string, values []any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if server {
		return to.ServerSide().Emit(ctx, name, values...)
	}
	return to.Emit(ctx, name, values...)
}

// printAnswers prints answers as they come.
func printAnswers(w io.Writer, answers iter.Seq2[event.Args, error]) error {
	for a, err := range answers {
		if err != nil {
			return incomplete(err)
		}
		if err := printJSON(w, jsonOr(a.JSON())); err != nil {
			return err
		}
	}
	return nil
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

func describeRooms(rooms, except []string, server bool) string {
	if server {
		return "the servers"
	}
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
