package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

func TestMain(m *testing.M) {
	if address, dir, ok := strings.Cut(os.Getenv(envServer), " "); ok {
		if err := serverMain(address, dir); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if address := os.Getenv(envHome); address != "" {
		if err := homeMain(address); err != nil {
			fmt.Fprintln(os.Stderr, "home:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	clustertest.Main(m, dial)
}

// node is an embedded server whose bus closes all of it.
type node struct {
	*Bus
	e *Embedded
}

func (n node) Close() error { return n.e.Close() }

// dial embeds a server whose directory is at the address; with a store, and a log in it, where the
// address goes on with | and that one's directory.
func dial(address string) (cluster.Bus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dir, store, stored := strings.Cut(address, "|")
	e, err := Embed(ctx, &EmbedOptions{Dir: dir, Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if !stored {
		return node{e.Bus(), e}, nil
	}
	l, err := OpenLog(ctx, e.Bus(), &LogOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		e.Close()
		return nil, err
	}
	return logNode{l, e}, nil
}

// logNode is an embedded server with a log, which closes all of it.
type logNode struct {
	*Log
	e *Embedded
}

func (n logNode) Close() error { return errors.Join(n.Log.Close(), n.e.Close()) }

// embed returns a function that opens embedded servers which find each other.
func embed(t *testing.T) clustertest.Open {
	dir := t.TempDir()
	return func(t *testing.T) cluster.Bus {
		b, err := dial(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
}

func TestBusEmbedded(t *testing.T)     { clustertest.TestBus(t, embed(t)) }
func TestClusterEmbedded(t *testing.T) { clustertest.TestCluster(t, embed(t)) }
func TestFrozenEmbedded(t *testing.T)  { clustertest.TestFrozen(t, t.TempDir(), dial) }

func TestRoutedEmbedded(t *testing.T) { clustertest.TestRouted(t, embed(t)) }

func TestDeathsEmbedded(t *testing.T) { clustertest.TestDeaths(t, t.TempDir(), dial) }
func TestDeathsStore(t *testing.T)    { clustertest.TestDeaths(t, storeAt(t), dial) }
