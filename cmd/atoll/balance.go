package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/sticky"
)

func balanceCommand() *cobra.Command {
	var (
		l        listenFlags
		backends []string
		policy   string
		status   string
		path     string
		health   string
	)
	cmd := &cobra.Command{
		Use:   "balance --backend URL[,URL...]",
		Short: "A load balancer in front of Socket.IO servers",
		Long: `balance sends each request of a session to the node that the session lives on, also when
a browser or another proxy mixes sessions on one connection. A node that dies is noticed
at once, and its clients reconnect elsewhere. It works in front of Atoll nodes, whose ids
name their node, and of any other Socket.IO server, whose ids it learns.`,
		Example: `  atoll balance --backend localhost:3001,localhost:3002,localhost:3003
  atoll balance --backend http://10.0.0.1:3000 --backend http://10.0.0.2:3000 --host 0.0.0.0 --port 80
  atoll balance --backend localhost:3001,localhost:3002 --status /balancer
  atoll balance --backend localhost:3001,localhost:3002 --health -      Node.js servers without a page for it`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(backends) == 0 {
				return usagef("no nodes to balance to: name them with --backend, for instance --backend localhost:3001,localhost:3002")
			}
			p, err := sticky.ParsePolicy(policy)
			if err != nil {
				return usageError{err}
			}
			if status != "" && !strings.HasPrefix(status, "/") {
				return usagef("--status is a path and begins with a slash, got %q", status)
			}
			o := &sticky.Options{Policy: p, Path: path, Logger: slog.Default(), Health: sticky.Health{Path: health}}
			for _, b := range backends {
				o.Backends = append(o.Backends, sticky.Backend{URL: b})
			}
			b, err := sticky.New(o)
			if err != nil {
				return usageError{err}
			}
			defer b.Close()
			return l.serve(cmd.Context(), withStatus(b, status), func(url string) {
				fmt.Fprintf(cmd.OutOrStdout(), "Balancing %s over %d nodes, %s. Ctrl-C ends it.\n", url, len(backends), p)
			}, func(ctx context.Context) error { return b.Shutdown(ctx) })
		},
	}
	f := cmd.Flags()
	l.register(f, 3000)
	f.StringSliceVarP(&backends, "backend", "b", nil, "nodes, as host:port or URL; several by comma or by repeating")
	f.StringVar(&policy, "policy", sticky.LeastConnections.String(), "node of a new session: least-connections, round-robin or random")
	f.StringVar(&path, "path", "/socket.io/", "path of the Socket.IO server on the nodes")
	f.StringVar(&health, "health", "/health", `path that nodes are asked for; an answer below 500 is healthy. "-": it is enough to connect, for bare Node.js servers`)
	f.StringVar(&status, "status", "", "serve the state of the nodes as JSON under this path; everybody who reaches the balancer can read it")
	return cmd
}

// withStatus serves the state of the nodes under path, where that is not empty, and leaves all else to b. It is
// no ServeMux: that would redirect what belongs to the nodes, and has a syntax of its own for paths.
func withStatus(b *sticky.Balancer, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path == "" || r.URL.Path != path {
			b.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(b.Status()) // whoever asked has left
	})
}
