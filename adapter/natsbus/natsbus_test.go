package natsbus

import (
	"context"
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
	clustertest.Main(m, dial)
}

// node is an embedded server whose bus closes all of it.
type node struct {
	*Bus
	e *Embedded
}

func (n node) Close() error { return n.e.Close() }

// dial embeds a server whose directory is at the address.
func dial(dir string) (cluster.Bus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e, err := Embed(ctx, &EmbedOptions{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return node{e.Bus(), e}, nil
}

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
