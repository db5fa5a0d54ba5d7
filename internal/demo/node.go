package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/metrics"
	"time"

	"github.com/atollhq/atoll"
)

// A NodeConfig is what the parent tells a node, as one line of JSON on its standard input.
type NodeConfig struct {
	Name    string  `json:"name"`
	Meeting meeting `json:"meeting"` // this demo's, so that two demos do not mix
	First   bool    `json:"first"`   // the demo begins: nobody can know what was said before
}

// RunNode is the life of one node: it reads its NodeConfig from in, joins the cluster,
// serves on a free port of the loopback interface, says so on out, and ends when ctx or in does:
// the parent holds the other end, so no node outlives it.
func RunNode(ctx context.Context, in io.Reader, out io.Writer) error {
	// Ctrl-C goes to all processes of the terminal at once. The parent ends its nodes itself.
	signal.Ignore(os.Interrupt)
	input := bufio.NewReader(io.LimitReader(in, 64<<10))
	line, err := input.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("this command is how `atoll demo` starts its nodes; run that instead (%w)", err)
	}
	var c NodeConfig
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("node: config: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, input)
		cancel()
	}()
	return serveNode(ctx, c, out)
}

func serveNode(ctx context.Context, c NodeConfig, out io.Writer) error {
	log := slog.Default().With("demo", c.Name)
	member, err := join(ctx, c.Meeting, c.Name, log)
	if err != nil {
		return err
	}
	defer member.Close()
	srv := atoll.NewServer(&atoll.Options{Cluster: member.Node, Logger: log})
	defer srv.Close()
	chat := newChat(srv, c.Name)
	reports := srv.Of(observed)
	reports.Use(func(context.Context, *atoll.Socket) error {
		return &atoll.ConnectError{Message: "the view of the cluster is at /observe/socket.io/"}
	})
	if c.First {
		log.Debug("the first of its name; there is nothing to learn")
	} else if err := chat.learn(ctx); err != nil {
		log.Info("not every node said what it remembers", "err", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	mux.Handle("/health", srv.Health())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()
	if err := json.NewEncoder(out).Encode(Ready{URL: "http://" + l.Addr().String()}); err != nil {
		return err
	}

	chat.report(ctx, reports, log)

	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		log.Warn("sessions were cut", "err", err)
	}
	_ = web.Close()
	<-served
	return nil
}

// report tells the parent how this node is, whenever something has changed and each
// second at least, until ctx ends.
func (c *chat) report(ctx context.Context, to *atoll.Namespace, log *slog.Logger) {
	tick := time.NewTicker(250 * time.Millisecond) // upgrades are not announced: look for them
	defer tick.Stop()
	var last time.Time
	var were []Client
	for {
		changed := false
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			changed = true
		case <-tick.C:
		}
		clients := c.clients()
		if !changed && time.Since(last) < time.Second && sameClients(were, clients) {
			continue
		}
		r := Report{Name: c.node, PID: os.Getpid(), Heap: heap(), Delivered: c.deliver.Load(), Clients: clients}
		if err := report.Emit(ctx, to.ServerSide(), r); err != nil && ctx.Err() == nil {
			log.Warn("the parent did not get the report", "err", err)
		}
		were, last = clients, time.Now()
		select {
		case <-ctx.Done():
			return
		case <-time.After(frame):
		}
	}
}

// sameClients reports whether a and b hold the same, in any order.
func sameClients(a, b []Client) bool {
	if len(a) != len(b) {
		return false
	}
	in := make(map[Client]int, len(a))
	for _, c := range a {
		in[c]++
	}
	for _, c := range b {
		if in[c]--; in[c] < 0 {
			return false
		}
	}
	return true
}

// heap returns how many bytes the objects on the heap take.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
