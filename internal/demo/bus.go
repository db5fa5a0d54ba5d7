package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/cluster"
)

// busName is what the picture calls the lagoon.
const busName = "NATS, embedded"

// Where the nodes of one demo find each other.
type meeting struct {
	Cluster string `json:"cluster"`
	Dir     string `json:"dir"`
}

// newMeeting makes one of its own for this demo, so that two demos do not mix.
// The folder is the caller's to remove.
func newMeeting() (meeting, error) {
	dir, err := os.MkdirTemp("", "atoll-demo-")
	if err != nil {
		return meeting{}, fmt.Errorf("the nodes need a folder to find each other: %w", err)
	}
	return meeting{Cluster: "demo", Dir: dir}, nil
}

// A membership is a node of the cluster, with the server of the bus that carries it.
type membership struct {
	*cluster.Node
	bus *natsbus.Embedded
}

// join joins the cluster under a name for people.
func join(ctx context.Context, m meeting, name string, log *slog.Logger) (*membership, error) {
	bus, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{Cluster: m.Cluster, Dir: m.Dir, Logger: log})
	if err != nil {
		return nil, err
	}
	node, err := cluster.Join(ctx, bus.Bus(), &cluster.Options{Name: name, Heartbeat: 500 * time.Millisecond, DeadAfter: 2 * time.Second, Logger: log})
	if err != nil {
		_ = bus.Close()
		return nil, err
	}
	return &membership{node, bus}, nil
}

// Close leaves the cluster. The server that is attached must be closed before.
func (m *membership) Close() {
	_ = m.Node.Close()
	_ = m.bus.Close()
}
