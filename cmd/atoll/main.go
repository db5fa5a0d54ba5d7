// Command atoll runs Socket.IO servers: the demo, a node, the balancer, and emit, which
// sends an event to the clients of a running cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
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
  atoll balance --backend localhost:3001,localhost:3002
  atoll emit news '{"title":"Hello"}'         tell all clients of the cluster`,
		SilenceErrors: true, SilenceUsage: true,
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
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w (see `%s --help`)", err, c.CommandPath())
	})
	cmd.AddCommand(demoCommand(), demoNodeCommand(), serveCommand(), balanceCommand(), emitCommand(), versionCommand())
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
