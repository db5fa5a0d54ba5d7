// Command atoll runs Socket.IO servers: the demo, a node, the balancer; it emits to the clients of a
// running cluster (emit, gateway), and looks into it (tail, nodes, sockets, rooms).
//
// It ends with status 0; with 1 when something failed, with 2 when the command was called in a
// wrong way, and with 3 when nodes or clients did not answer in time, after what the others said was printed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := notify(context.Background())
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "atoll:", err)
		os.Exit(exitCode(err))
	}
}

// A usageError is one of how the command was called: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	if _, ok := errors.AsType[incompleteError](err); ok {
		return 3
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

func root() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "atoll",
		Short: "A Socket.IO server for many nodes",
		Long: `atoll is a Socket.IO server for many nodes. Clients of Socket.IO 3 and 4 connect to
it, nodes find each other, and losing one costs its clients a reconnection.`,
		Example: `  atoll demo                                  see it: a chat on three nodes
  atoll serve --port 3001                     a node; start another and they are a cluster
  atoll run --nodes 4 -- ./your-server        four processes of a server behind one port
  atoll balance --backend localhost:3001,localhost:3002
  atoll emit news '{"title":"Hello"}'         tell all clients of the cluster
  atoll tail                                  watch what the nodes tell each other`,
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usagef("unknown command %q: did you mean `atoll %s`?", args[0], near[0])
			}
			return usagef("unknown command %q (see `atoll --help`)", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			level := slog.LevelInfo
			if quiet := cmd.Annotations["quiet"]; quiet != "" {
				level = slog.LevelWarn
			}
			if verbose {
				level = slog.LevelDebug
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	cmd.PersistentFlags().BoolVarP(&verbose, "verbose", "v", false, "say more about what happens")
	cmd.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "nsp" {
			name = "namespace"
		}
		return pflag.NormalizedName(name)
	})
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w (see `%s --help`)", err, c.CommandPath())
	})
	cmd.AddCommand(demoCommand(), demoNodeCommand(), serveCommand(), balanceCommand(), emitCommand(), gatewayCommand(), tailCommand(),
		nodesCommand(), drainCommand(), runCommand(), socketsCommand(), roomsCommand(), checkCommand(), busHelp(), versionCommand())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}

// noArgs refuses arguments in words that help.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q (see `%s --help`)", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
