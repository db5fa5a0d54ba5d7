package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A store keeps messages and sessions for all nodes of one machine: a NATS server with JetStream, apart
// from the nodes' own. It runs in the node that holds the lock on the directory. When that process
// ends, however it does, the system gives up its lock, and another node goes on with the same files. Each node has a
// connection to it, which finds it by the address in the directory.
type store struct {
	path   string
	base   *server.Options
	log    *slog.Logger
	conn   *nats.Conn
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

const (
	storeLock    = "lock"
	storeAddress = "address"
	storeFiles   = "jetstream"
	storeLook    = 50 * time.Millisecond // between two tries for the lock
	nameFile     = "name"
)

// openStore joins the store of this machine, or begins it, and waits until it answers.
func openStore(ctx context.Context, path, cluster, secret string, maxPayload int, log *slog.Logger) (*store, error) {
	if !locks {
		return nil, errors.New("EmbedOptions.Store without Routes needs a system with file locks; name Routes, or use a NATS server of its own")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, err
	}
	s := &store{path: path, log: log, base: &server.Options{
		ServerName: "atoll-store", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true,
		Users:      []*server.User{{Username: clientUser, Password: clientKey(cluster, secret)}},
		MaxPayload: int32(maxPayload), MaxPending: 2 * int64(maxPayload), MaxControlLine: 4096,
		JetStream: true, StoreDir: filepath.Join(path, storeFiles),
	}}
	var run context.Context
	run, s.stop = context.WithCancel(context.Background())
	ready := make(chan error, 1)
	s.keeper.Go(func() { s.keep(run, ready) })
	for {
		var err error
		opts := append(clientOptions(cluster, secret), timeout(ctx), nats.SetCustomDialer(s))
		if s.conn, err = nats.Connect("nats://store.atoll", opts...); err == nil {
			return s, nil
		}
		select {
		case failed := <-ready:
			if failed != nil {
				s.close()
				return nil, failed
			}
			ready = nil
		case <-time.After(storeLook):
		case <-ctx.Done():
			s.close()
			return nil, fmt.Errorf("the store in %s does not answer: %w: %w", path, context.Cause(ctx), err)
		}
	}
}

// Dial implements nats.CustomDialer: it connects to where the store is now.
func (s *store) Dial(network, _ string) (net.Conn, error) {
	b, err := os.ReadFile(filepath.Join(s.path, storeAddress))
	if err != nil {
		return nil, err
	}
	return net.DialTimeout("tcp", strings.TrimSpace(string(b)), time.Second)
}

// SkipTLSHandshake says that the connection is as it shall be.
func (s *store) SkipTLSHandshake() bool { return true }

// keep waits for its turn, and runs the server until the node ends. It reports to ready how its first
// turn began.
func (s *store) keep(ctx context.Context, ready chan<- error) {
	for ctx.Err() == nil {
		held, err := s.turn(ctx, ready)
		if err != nil {
			s.log.Error("natsbus: the store could not be opened", "path", s.path, "err", err)
			select {
			case ready <- err:
			default:
			}
		}
		pause := storeLook
		if held && err != nil {
			pause = time.Second // perhaps another can
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// turn runs the server if the lock is free. held reports whether it was.
func (s *store) turn(ctx context.Context, ready chan<- error) (held bool, err error) {
	f, err := os.OpenFile(filepath.Join(s.path, storeLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close() // and with it, the lock is free
	if lock(f) != nil {
		return false, nil
	}
	srv, err := server.NewServer(s.base.Clone())
	if err != nil {
		return true, err
	}
	srv.SetLoggerV2(logger{s.log}, false, false, false)
	srv.Start()
	defer func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	if !srv.ReadyForConnections(readyTimeout) || !srv.JetStreamEnabled() {
		return true, fmt.Errorf("the server of the store did not start within %v: is %s readable, and made by this version of NATS?", readyTimeout, s.base.StoreDir)
	}
	if err := writeWhole(filepath.Join(s.path, storeAddress), srv.Addr().String()); err != nil {
		return true, err
	}
	select {
	case ready <- nil:
	default:
	}
	<-ctx.Done()
	return true, nil
}

// writeWhole writes a file so that whoever reads it reads all of it, or what was there before.
func writeWhole(path, text string) error {
	tmp := path + "." + rand.Text()
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

func (s *store) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.stop()
	s.keeper.Wait()
}

// nameOf returns the name of the server whose files are in a directory: JetStream knows its members by
// their names, so it must stay the same.
func nameOf(path string) (string, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	if err := private(path); err != nil {
		return "", err
	}
	file := filepath.Join(path, nameFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		name := rand.Text()
		return name, writeWhole(file, name)
	}
	if err != nil {
		return "", err
	}
	if !validName(string(b)) {
		return "", fmt.Errorf("%s holds no name of a server: remove it", file)
	}
	return string(b), nil
}
