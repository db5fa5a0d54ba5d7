package cluster_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// greeter is a server for one node.
type greeter struct{ name string }

func (g greeter) Do(op *cluster.Op, answer func(cluster.Answer)) {
	switch op.Kind {
	case cluster.ServerAsk:
		answer(cluster.Answer{First: true, Data: []byte(`["hello from ` + g.name + `"]`)})
	default: // the other kinds send to sockets, and this server has none
		if answer != nil {
			answer(cluster.Answer{First: true})
		}
	}
}

// Two nodes in one process; with natsbus or redisbus they are anywhere.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var hub membus.Hub
	var nodes []*cluster.Node
	for _, name := range []string{"a", "b"} {
		bus := membus.New(&hub, nil)
		defer bus.Close()
		node, err := cluster.Join(ctx, bus, &cluster.Options{Name: name})
		if err != nil {
			log.Fatal(err)
		}
		defer node.Close()
		node.Attach(greeter{name})
		nodes = append(nodes, node)
	}
	for answer, err := range nodes[0].Ask(ctx, &cluster.Op{Kind: cluster.ServerAsk, Namespace: "/", Data: []byte(`["hi"]`)}) {
		if err != nil {
			log.Fatal(err) // an *AbsentError names who did not answer
		}
		fmt.Println(string(answer.Data))
	}
	// Output: ["hello from b"]
}
