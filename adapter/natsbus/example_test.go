package natsbus_test

import (
	"context"
	"fmt"
	"log"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/cluster"
)

// A node with nothing else installed. Others on this machine find it by themselves.
func ExampleEmbed() {
	ctx := context.Background()
	embedded, err := natsbus.Embed(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer embedded.Close()
	node, err := cluster.Join(ctx, embedded.Bus(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	fmt.Println(node.Peers())
}

// Three machines with one secret.
func ExampleEmbed_machines() {
	embedded, err := natsbus.Embed(context.Background(), &natsbus.EmbedOptions{
		Listen: ":6222",
		Routes: []string{"10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:6222"},
		Secret: "from the environment, at least 16 characters",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer embedded.Close()
}

// Nodes of one machine that lose nothing, and whose clients can move from one to another.
func ExampleOpenLog() {
	ctx := context.Background()
	embedded, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{Store: "/var/lib/chat"})
	if err != nil {
		log.Fatal(err)
	}
	defer embedded.Close()
	bus, err := natsbus.OpenLog(ctx, embedded.Bus(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	node, err := cluster.Join(ctx, bus, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
}

// A NATS cluster that is there already.
func ExampleConnect() {
	ctx := context.Background()
	bus, err := natsbus.Connect(ctx, "nats://10.0.0.1:4222,nats://10.0.0.2:4222", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	node, err := cluster.Join(ctx, bus, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
}
