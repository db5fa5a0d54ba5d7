//go:build unix

package emitter_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/internal/pgtest"
	"github.com/atollhq/atoll/internal/redistest"
)

// onRedis returns what makes buses on a Redis of the test's own.
func onRedis(t *testing.T, open func(rueidis.Client) cluster.Bus) func() cluster.Bus {
	addr := redistest.Start(t).Addr()
	return func() cluster.Bus {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return open(client)
	}
}

func onPostgres(t *testing.T, open func(*pgxpool.Pool) cluster.Bus) func() cluster.Bus {
	server := pgtest.Start(t)
	url := server.URL(server.Database(t))
	return func() cluster.Bus {
		pool, err := pgxpool.New(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return open(pool)
	}
}

// tally answers for 7 clients, and counts what it is told.
type tally struct{ n atomic.Int64 }

func (c *tally) Do(_ *cluster.Op, answer func(cluster.Answer)) {
	if answer == nil {
		c.n.Add(1)
		return
	}
	answer(cluster.Answer{First: true, Clients: 7})
}

// TestMedia: in every format an emitter that asks gets all answers and is heard once, and the
// nodes do not take it for one of them, before and after it has asked.
func TestMedia(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) func() cluster.Bus{
		"classic": func(t *testing.T) func() cluster.Bus {
			return onRedis(t, func(c rueidis.Client) cluster.Bus { return redisbus.New(c, nil) })
		},
		"own on Redis": func(t *testing.T) func() cluster.Bus {
			return onRedis(t, func(c rueidis.Client) cluster.Bus { return redisbus.NewNative(c, nil) })
		},
		"sharded": func(t *testing.T) func() cluster.Bus {
			return onRedis(t, func(c rueidis.Client) cluster.Bus { return redisshard.New(c, nil) })
		},
		"streams": func(t *testing.T) func() cluster.Bus {
			return onRedis(t, func(c rueidis.Client) cluster.Bus { return redisstream.New(c, nil) })
		},
		"Postgres": func(t *testing.T) func() cluster.Bus {
			return onPostgres(t, func(p *pgxpool.Pool) cluster.Bus { return pgbus.New(p, nil) })
		},
		"own on Postgres": func(t *testing.T) func() cluster.Bus {
			return onPostgres(t, func(p *pgxpool.Pool) cluster.Bus { return pgbus.NewLog(p, nil) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			open := start(t)
			bus := func() cluster.Bus {
				b := open()
				t.Cleanup(func() { b.Close() })
				return b
			}
			ctx := t.Context()
			var told [3]tally
			var nodes [3]*cluster.Node
			for i := range nodes {
				n, err := cluster.Join(ctx, bus(), &cluster.Options{Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { n.Close() })
				if err := n.Attach(&told[i]); err != nil {
					t.Fatal(err)
				}
				if err := n.Open(ctx, "/"); err != nil {
					t.Fatal(err)
				}
				if err := n.Enter(ctx, "/", "room"); err != nil { // as who has members there
					t.Fatal(err)
				}
				nodes[i] = n
			}
			// others returns what a node hears from the others, and how long that took.
			others := func() (clients int, took time.Duration) {
				begun := time.Now()
				for a, err := range nodes[0].Ask(ctx, &cluster.Op{Kind: cluster.Count, Namespace: "/", Timeout: 30 * time.Second}) {
					if err != nil {
						t.Error(err)
					}
					clients += a.Clients
				}
				return clients, time.Since(begun)
			}
			em, err := emitter.Connect(ctx, bus(), &emitter.Options{Timeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer em.Close()
			for round := range 2 {
				if got, took := others(); got != 14 || took > 25*time.Second {
					t.Errorf("round %d: a node counts %d clients of the others in %v, want 14 without a wait", round, got, took)
				}
				if got, err := em.To("room").Count(ctx); got != 21 || err != nil {
					t.Errorf("round %d: the emitter counts %d and says %v, want 21", round, got, err)
				}
				if got := len(nodes[0].Peers()); got != 2 {
					t.Errorf("round %d: a node has %d peers, want 2", round, got)
				}
			}
			tells := emitter.New(bus(), nil)
			for range 10 {
				if err := em.To("room").Emit(ctx, "x", 1); err != nil {
					t.Error(err)
				}
				if err := tells.To("room").Join(ctx, "other"); err != nil {
					t.Error(err)
				}
			}
			for i := range told {
				for deadline := time.Now().Add(20 * time.Second); told[i].n.Load() < 20 && time.Now().Before(deadline); {
					time.Sleep(5 * time.Millisecond)
				}
			}
			time.Sleep(50 * time.Millisecond) // for what comes twice
			for i := range told {
				if got := told[i].n.Load(); got != 20 {
					t.Errorf("node %d was told %d operations, want 20", i, got)
				}
			}
		})
	}
}
