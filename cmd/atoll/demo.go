package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/internal/demo"
)

const demoNode = "demo-node"

func demoCommand() *cobra.Command {
	o := demo.Options{}
	var open, noColor bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "A chat on three nodes, and a live picture of them",
		Long: `demo starts three nodes, each a process of its own, a balancer in front, and a page: a
chat, and beside it a live picture of the cluster. Open it in a few tabs, end a node
with its button (or with kill -9), and see its tabs go on elsewhere.

It needs nothing but this program, and listens on this machine only.`,
		Example: `  atoll demo
  atoll demo --port 8080 --nodes 5 --open`,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("cannot find my own program, which the nodes run: %w", err)
			}
			o.Command = []string{self, demoNode}
			if v, _ := cmd.Flags().GetBool("verbose"); v {
				o.Command = append(o.Command, "--verbose")
			}
			o.Out, o.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			o.Color = !noColor && os.Getenv("NO_COLOR") == "" && isTerminal(os.Stdout)
			if open {
				o.Ready = openBrowser
			}
			return demo.Run(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.Port, "port", "p", 3000, "port of the page; if it is taken, the next free one")
	f.StringVar(&o.Host, "host", "127.0.0.1", "address to listen on; with 0.0.0.0 other machines can see the demo, and end its nodes")
	f.IntVarP(&o.Nodes, "nodes", "n", 3, fmt.Sprintf("how many nodes, 1 to %d", demo.MaxNodes))
	f.BoolVar(&open, "open", false, "open the page in the browser")
	f.BoolVar(&noColor, "no-color", false, "write plain text")
	return cmd
}

// demoNodeCommand is how demo starts a node.
func demoNodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:         demoNode,
		Hidden:      true,
		Args:        noArgs,
		Annotations: map[string]string{"quiet": "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.RunNode(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
}

// openBrowser shows the page with whatever this system opens pages with.
func openBrowser(url string) {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		slog.Warn("cannot open a browser; open the page by hand", "url", url, "err", err)
		return
	}
	go func() { _ = cmd.Wait() }() // ends with the opener, or with us
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
