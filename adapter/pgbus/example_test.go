package pgbus_test

import (
	"context"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/cluster"
)

// A node in a cluster with Node.js nodes.
func ExampleNew() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://app@127.0.0.1/app")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	bus := pgbus.New(pool, nil)
	defer bus.Close()
	node, err := cluster.Join(ctx, bus, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
}

// A node in a cluster of Atoll nodes, which loses nothing and recovers connections.
func ExampleNewLog() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://app@127.0.0.1/app")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	bus := pgbus.NewLog(pool, &pgbus.LogOptions{Keep: 15 * time.Minute})
	defer bus.Close()
	node, err := cluster.Join(ctx, bus, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
}
