package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

func gatewayCommand() *cobra.Command {
	var (
		l    listenFlags
		b    busFlags
		file string
		o    httpemit.Options
	)
	cmd := &cobra.Command{
		Use:   "gateway --token-file FILE",
		Short: "Let programs in any language emit by HTTP",
		Long: `gateway takes operations as JSON, by POST /emit, and passes them to the cluster: it emits events
and waits for acks, moves clients into rooms and out of them, disconnects them, and counts and
lists them. docs/emit.md has the whole format. GET /healthz says whether it works.

A request carries one of the tokens in the file (Authorization: Bearer TOKEN). There is one on each
line; the file is read again when it changes, so tokens are changed without an interruption.`,
		Example: `  openssl rand -hex 32 >tokens && chmod 600 tokens
  atoll gateway --token-file tokens --bus redis://localhost:6379
  curl -H "Authorization: Bearer $(head -1 tokens)" -H "Content-Type: application/json" \
       -d '{"nsp":"/chat","rooms":["lobby"],"event":"said","args":["hello"]}' localhost:8080/emit
  atoll gateway --open                            every program on this machine may emit`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := allowedToEmit(&o, file, l.host); err != nil {
				return err
			}
			bus, err := b.reach(ctx)
			if err != nil {
				return err
			}
			defer bus.close()
			em, err := emitter.Connect(ctx, bus.Bus, &emitter.Options{Key: key(), Settle: lookSettle, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
			}
			defer em.Close()
			h, err := httpemit.New(em, &o)
			if err != nil {
				return usageError{err}
			}
			watching, stop := context.WithCancel(ctx)
			var wg sync.WaitGroup
			if file != "" {
				wg.Go(func() { watchTokens(watching, file, h) })
			}
			defer wg.Wait()
			defer stop()
			return l.serve(ctx, gatewayRoutes(h), func(url string) {
				fmt.Fprintf(cmd.OutOrStdout(), "Serving %s/emit for the cluster over %s. Ctrl-C ends it.\n", url, bus.name)
			}, nil)
		},
	}
	f := cmd.Flags()
	l.register(f, 8080)
	b.register(f)
	f.StringVar(&file, "token-file", "", "file with the tokens that may emit, one on each line")
	f.BoolVar(&o.Open, "open", false, "let every program on this machine emit, without a token")
	f.Int64Var(&o.MaxBody, "max-body", 1<<20, "largest request, in bytes")
	f.IntVar(&o.MaxBatch, "max-batch", 1000, "most operations in a request")
	f.Float64Var(&o.Rate, "rate", 0, "most operations per second (default: no limit)")
	return cmd
}

// allowedToEmit sets who may emit.
func allowedToEmit(o *httpemit.Options, file, host string) error {
	switch {
	case file == "" && !o.Open:
		return usagef("who may emit? Name a file with tokens (--token-file), or let every program on this machine (--open)")
	case file != "" && o.Open:
		return usagef("choose one of --token-file and --open")
	case o.Open:
		if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return usagef("--open is for this machine only, and --host %s can be reached by others: use --token-file", host)
		}
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return usagef("cannot read the tokens: %w", err)
	}
	o.Tokens = tokens(data)
	if len(o.Tokens) == 0 {
		return usagef("there is no token in %s: write one on each line, for instance from `openssl rand -hex 32`", file)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		slog.Warn("other users can read the tokens", "file", file, "try", "chmod 600 "+file)
	}
	return nil
}

// tokens are the lines of a file, without empty ones and those that begin with #.
func tokens(data []byte) []string {
	var ts []string
	for line := range bytes.Lines(data) {
		if t := strings.TrimSpace(string(line)); t != "" && t[0] != '#' {
			ts = append(ts, t)
		}
	}
	return ts
}

const tokensLook = time.Second // between two looks at the file of tokens

// watchTokens gives h the tokens of the file whenever they have changed, until ctx ends.
func watchTokens(ctx context.Context, file string, h *httpemit.Handler) {
	tick := time.NewTicker(tokensLook)
	defer tick.Stop()
	last, _ := os.ReadFile(file)
	var failure string
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		data, err := os.ReadFile(file)
		if err == nil {
			if bytes.Equal(data, last) {
				failure = ""
				continue
			}
			if err = h.SetTokens(tokens(data)...); err == nil {
				last = data
				slog.Info("the tokens have changed", "tokens", len(tokens(data)))
			}
		}
		if err != nil && err.Error() != failure {
			failure = err.Error()
			slog.Error("the tokens stay as they were", "file", file, "err", err)
		}
	}
}

func gatewayRoutes(h *httpemit.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/emit", h)
	mux.Handle("GET /healthz", h.Health())
	return mux
}
