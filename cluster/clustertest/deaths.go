package clustertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// serveTalker is a talker in a process of its own. It obeys the lines of its standard input.
func serveTalker(name, address string, dial Dial) error {
	bus, err := dial(address)
	if err != nil {
		return err
	}
	defer bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	x, err := newTalker(ctx, bus, cluster.Options{
		ID: name, Name: name, Heartbeat: heartbeat, DeadAfter: deadAfter, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer x.Close()
	defer x.silence()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "talk":
			x.talk(talkPause)
		case "silence":
			x.silence()
		}
		if err := json.NewEncoder(os.Stdout).Encode(record{int(x.sent.Load()), x.ledger.accounts()}); err != nil {
			return err
		}
	}
	return nil
}

// A record is what a talker in another process says of itself.
type record struct {
	Sent     int
	Accounts map[string]account
}

// tell gives the process an order and returns what it says.
func (p *Process) tell(order string) record {
	p.t.Helper()
	fmt.Fprintln(p.in, order)
	line, err := p.out.ReadBytes('\n')
	var r record
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		p.t.Fatalf("node process, told %q: %v", order, err)
	}
	return r
}

// TestDeaths tests what a cluster of three nodes makes of a node whose process is killed, and of
// one whose process is stopped (SIGSTOP) for long enough to be taken for dead and then goes on, while
// all talk. It needs Main. Nothing may be lost that the medium carries.
func TestDeaths(t *testing.T, address string, dial Dial) {
	open := func(t *testing.T) cluster.Bus {
		bus, err := dial(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bus.Close() })
		return bus
	}
	s := &suite{open: open}
	begin := func(t *testing.T) ([]*talker, *Process) {
		var xs []*talker
		for _, name := range []string{"a", "b"} {
			x, err := newTalker(t.Context(), open(t), cluster.Options{Name: name, Heartbeat: heartbeat, DeadAfter: deadAfter, Logger: logger(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				x.silence()
				x.Close()
			})
			xs = append(xs, x)
		}
		c := start(t, "c", address, envTalk+"=1")
		for _, x := range xs {
			s.eventually(t, "three nodes that know each other", func() bool { return len(x.Peers()) == 2 })
		}
		c.tell("talk")
		for _, x := range xs {
			x.talk(talkPause)
		}
		time.Sleep(before)
		return xs, c
	}

	t.Run("killed", func(t *testing.T) {
		xs, c := begin(t)
		c.Kill()
		for _, x := range xs {
			s.eventually(t, "one node left", func() bool { return len(x.Peers()) == 1 })
		}
		for _, x := range xs {
			x.silence()
		}
		s.balanced(t, xs, true)
		for _, x := range xs {
			if a := x.ledger.accounts()["c"]; a.Delivered == 0 || a.Delivered+a.Lost < a.Last {
				t.Errorf("from the killed node to %s: got %d delivered and %d reported lost, want at least %d together, the last that came", x.Name(), a.Delivered, a.Lost, a.Last)
			}
		}
	})

	t.Run("frozen", func(t *testing.T) {
		xs, c := begin(t)
		c.Freeze()
		for _, x := range xs {
			s.eventually(t, "one node left", func() bool { return len(x.Peers()) == 1 })
		}
		time.Sleep(time.Second)
		c.Thaw()
		for _, x := range xs {
			s.eventually(t, "the node that was frozen", func() bool { return len(x.Peers()) == 2 })
		}
		time.Sleep(before)
		for _, x := range xs {
			x.silence()
		}
		sent := c.tell("silence").Sent
		s.balanced(t, xs, true)
		var wrong string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			wrong = ""
			got := c.tell("report").Accounts
			for _, x := range xs {
				if a := x.ledger.accounts()["c"]; a.Delivered+a.Lost != sent || len(a.Wrong) > 0 {
					wrong += fmt.Sprintf("from c to %s: got %+v, want %d delivered or reported lost\n", x.Name(), a, sent)
				}
				if a := got[x.ID()]; a.Delivered+a.Lost != int(x.sent.Load()) || len(a.Wrong) > 0 {
					wrong += fmt.Sprintf("from %s to c: got %+v, want %d delivered or reported lost\n", x.Name(), a, x.sent.Load())
				}
			}
			if wrong == "" {
				return
			}
		}
		t.Error(wrong)
	})
}
