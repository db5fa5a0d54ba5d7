package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A ledger is the Receiver of a node in a fault test: it notes what came, and what was
// reported as lost, from each sender.
type ledger struct {
	mu   sync.Mutex
	from map[string]*account // by the sender's id
}

// An account is what came from one sender. Its fields are exported for JSON.
type account struct {
	Delivered int
	Lost      int
	Last      int // the highest message
	Wrong     []string
}

func (a *account) complain(format string, args ...any) {
	if len(a.Wrong) < 5 {
		a.Wrong = append(a.Wrong, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) of(id string) *account {
	if l.from == nil {
		l.from = make(map[string]*account)
	}
	a := l.from[id]
	if a == nil {
		a = &account{}
		l.from[id] = a
	}
	return a
}

// Do implements cluster.Receiver.
func (l *ledger) Do(op *cluster.Op, answer func(cluster.Answer)) {
	if answer != nil {
		answer(cluster.Answer{First: true})
		return
	}
	var event []json.RawMessage
	var name, sender string
	var number int
	if json.Unmarshal(op.Data, &event) != nil || len(event) < 3 || json.Unmarshal(event[0], &name) != nil || name != "fault" ||
		json.Unmarshal(event[1], &sender) != nil || json.Unmarshal(event[2], &number) != nil {
		return // a question, or another test's
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of(sender)
	a.Delivered++
	if number <= a.Last {
		a.complain("message %d came behind %d", number, a.Last)
	}
	a.Last = max(a.Last, number)
}

// gap is the node's OnGap.
func (l *ledger) gap(from string, first, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(from).Lost += int(last - first + 1)
}

// accounts returns a copy of what is noted.
func (l *ledger) accounts() map[string]account {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]account, len(l.from))
	for id, a := range l.from {
		m[id] = *a
	}
	return m
}

// A talker is a node that tells the others numbered messages at a steady pace.
type talker struct {
	*cluster.Node
	ledger *ledger
	sent   atomic.Int64 // attempts
	failed atomic.Int64 // of which Tell returned an error
	stop   context.CancelFunc
	ended  chan struct{}
}

// padding makes messages of several sizes, so that a cut hits the middle of some.
var padding = func() string {
	b := make([]byte, 3000)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}()

// talk begins to tell something every pause.
func (x *talker) talk(pause time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	x.stop, x.ended = stop, make(chan struct{})
	go func() {
		defer close(x.ended)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			k := x.sent.Add(1)
			op := &cluster.Op{
				Kind: cluster.Emit, Namespace: "/",
				Data: fmt.Appendf(nil, `["fault",%q,%d,%q]`, x.ID(), k, padding[:(k*97)%3000]),
			}
			limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if x.Tell(limited, op) != nil {
				x.failed.Add(1)
			}
			cancel()
		}
	}()
}

// silence ends what talk began.
func (x *talker) silence() {
	if x.stop != nil {
		x.stop()
		<-x.ended
		x.stop = nil
	}
}

// newTalker joins a node that keeps a ledger.
func newTalker(ctx context.Context, bus cluster.Bus, o cluster.Options) (*talker, error) {
	x := &talker{ledger: &ledger{}}
	o.OnGap = x.ledger.gap
	var err error
	if x.Node, err = cluster.Join(ctx, bus, &o); err != nil {
		return nil, err
	}
	if err = x.Attach(x.ledger); err == nil {
		err = x.Open(ctx, "/")
	}
	if err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}
