//go:build unix

package pgbus

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/pgtest"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	if url := os.Getenv(envNode); url != "" {
		os.Exit(serveUntilEOF(url))
	}
	clustertest.Main(m, dialAny)
}

// dial makes a pool for what pgtest.URL returns.
func dial(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// A format is one of the two that this package has.
type format struct {
	name string
	open func(pool *pgxpool.Pool, timeout time.Duration) cluster.Bus
}

var (
	officialFormat = format{"official", func(pool *pgxpool.Pool, timeout time.Duration) cluster.Bus {
		return New(pool, &Options{Logger: quiet, Timeout: timeout, KeepAlive: timeout + time.Second})
	}}
	logFormat = format{"log", func(pool *pgxpool.Pool, timeout time.Duration) cluster.Bus {
		return NewLog(pool, &LogOptions{Logger: quiet, Timeout: timeout, KeepAlive: timeout + time.Second})
	}}
	formats = []format{officialFormat, logFormat}
)

func each(t *testing.T, f func(t *testing.T, x format)) {
	for _, x := range formats {
		t.Run(x.name, func(t *testing.T) { f(t, x) })
	}
}

// Buses with a pool of their own, which they close.
type ownBus struct {
	*Bus
	pool *pgxpool.Pool
}

func (b ownBus) Close() error {
	err := b.Bus.Close()
	b.pool.Close()
	return err
}

type ownLog struct {
	*Log
	pool *pgxpool.Pool
}

func (b ownLog) Close() error {
	err := b.Log.Close()
	b.pool.Close()
	return err
}

// dialAny makes the bus that a child process is told to have: "format url".
func dialAny(address string) (cluster.Bus, error) {
	for _, f := range formats {
		if len(address) > len(f.name) && address[:len(f.name)] == f.name {
			return f.dial(address[len(f.name)+1:])
		}
	}
	return nil, errors.New("no format in " + address)
}

func (f format) dial(url string) (cluster.Bus, error) {
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		return nil, err
	}
	switch b := f.open(pool, 5*time.Second).(type) {
	case *Bus:
		return ownBus{b, pool}, nil
	case *Log:
		return ownLog{b, pool}, nil
	}
	return nil, errors.New("no bus")
}

// server starts a server for a test, in whose databases nothing disturbs another test.
func server(t testing.TB) *pgtest.Server {
	t.Helper()
	return pgtest.Start(t, "max_connections=200")
}

// eventually waits until ok, for a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute, got no: %s", what)
		}
	}
}

// mail collects what a subscription delivers.
type mail struct {
	mu   sync.Mutex
	msgs []string
}

func (m *mail) deliver(_ string, msg []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.msgs = append(m.msgs, string(msg))
}

func (m *mail) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.msgs...)
}
