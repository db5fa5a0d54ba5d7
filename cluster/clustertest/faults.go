package clustertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A Rig is a real medium that can be made to fail.
type Rig struct {
	// Addr is the host and port of the medium. The kit puts proxies of its own before it.
	Addr string
	// Open makes a bus whose connections all go to addr. The kit closes it.
	Open func(t testing.TB, addr string) cluster.Bus

	Kill    func()       // ends the medium at once (SIGKILL)
	Restart func() error // starts it again at the same address, and waits until it answers
	Freeze  func() error // stops it (SIGSTOP)
	Thaw    func() error // lets it go on

	// Lossless says that nothing may be lost, whatever happens to the medium or to the way
	// to it, because it keeps what it took and nodes repair the rest.
	Lossless bool

	// Faults are further faults of this medium. Each is caused while all nodes talk, and must
	// be over when it returns.
	Faults []Fault
}

// A Fault is something that happens to a medium, or to the way there.
type Fault struct {
	Name  string
	Cause func(t *testing.T)
}

// The shape of a fault test.
const (
	talkers   = 3
	talkPause = 3 * time.Millisecond // of each: a thousand messages a second in all
	before    = 300 * time.Millisecond
	settled   = 4 * heartbeat
)

// TestFaults tests what a cluster of three nodes makes of the faults of a medium and of the
// way there, while each node tells the others some 330 messages a second. After each
// fault, for every pair of nodes: what was delivered and what was reported as lost are
// together what was sent, nothing came twice, and all came in order.
// start is called once for each fault.
func TestFaults(t *testing.T, start func(t testing.TB) *Rig) {
	s := &suite{}
	for _, f := range []struct {
		name string
		do   func(t *testing.T, r *Rig, p []*Proxy)
	}{
		{"medium killed and restarted", faultRestart},
		{"medium frozen", faultFreeze},
		{"connections cut in the middle of a message", faultCut},
		{"half-open links of one node", faultHalfOpen},
		{"one node cut off and healed", faultPartition},
	} {
		t.Run(f.name, func(t *testing.T) { s.fault(t, start(t), f.do) })
	}
	t.Run("more", func(t *testing.T) {
		r := start(t)
		if len(r.Faults) == 0 {
			return
		}
		for i, f := range r.Faults {
			if i > 0 {
				r = start(t)
			}
			t.Run(f.Name, func(t *testing.T) {
				s.fault(t, r, func(t *testing.T, r *Rig, _ []*Proxy) { r.Faults[i].Cause(t) })
			})
		}
	})
}

// fault runs one fault through.
func (s *suite) fault(t *testing.T, r *Rig, do func(t *testing.T, r *Rig, p []*Proxy)) {
	xs := make([]*talker, talkers)
	ps := make([]*Proxy, talkers)
	for i := range xs {
		ps[i] = NewProxy(t, r.Addr)
		bus := r.Open(t, ps[i].Addr())
		t.Cleanup(func() { bus.Close() })
		x, err := newTalker(t.Context(), bus, cluster.Options{
			Name: string(rune('a' + i)), Heartbeat: heartbeat, DeadAfter: deadAfter, Logger: logger(t),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			x.silence()
			if err := x.Close(); err != nil {
				t.Errorf("Close of node %s: %v", x.Name(), err)
			}
		})
		xs[i] = x
	}
	s.acquainted(t, xs)
	for _, x := range xs {
		x.talk(talkPause)
	}
	time.Sleep(before)
	do(t, r, ps)
	time.Sleep(before)
	for _, x := range xs {
		x.silence()
	}
	s.balanced(t, xs, r.Lossless)
	s.acquainted(t, xs)
	s.well(t, xs)
}

// acquainted waits until the nodes know each other.
func (s *suite) acquainted(t *testing.T, xs []*talker) {
	t.Helper()
	for _, x := range xs {
		s.eventually(t, fmt.Sprintf("node %s that knows %d others", x.Name(), len(xs)-1), func() bool {
			return len(x.Peers()) == len(xs)-1
		})
	}
}

// balanced waits until what was delivered and what was reported as lost is what was
// sent, between all nodes, and checks that it stays so.
func (s *suite) balanced(t *testing.T, xs []*talker, lossless bool) {
	t.Helper()
	open := func() (wrong []string) {
		for _, to := range xs {
			as := to.ledger.accounts()
			for _, from := range xs {
				a := as[from.ID()]
				if sent := int(from.sent.Load()); from != to && a.Delivered+a.Lost != sent {
					wrong = append(wrong, fmt.Sprintf("from %s to %s: got %d delivered and %d reported lost, want %d together",
						from.Name(), to.Name(), a.Delivered, a.Lost, sent))
				}
			}
		}
		return wrong
	}
	for deadline := time.Now().Add(patience); len(open()) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(settled)
	for _, w := range open() {
		t.Error(w)
	}
	for _, to := range xs {
		for id, a := range to.ledger.accounts() {
			for _, w := range a.Wrong {
				t.Errorf("from %s to %s: %s", id, to.Name(), w)
			}
			t.Logf("ledger: sent %d, lost %d", a.Delivered+a.Lost, a.Lost)
			if lossless && a.Lost > 0 {
				t.Errorf("from %s to %s: got %d messages lost, want none", id, to.Name(), a.Lost)
			}
		}
	}
	for _, x := range xs {
		st := x.Stats()
		t.Logf("node %s: sent %d, of which Tell failed for %d; gaps %d, duplicates %d, %+v",
			x.Name(), x.sent.Load(), x.failed.Load(), st.Gaps, st.Duplicates, x.ledger.accounts())
	}
}

// well checks that the cluster works as if nothing had happened.
func (s *suite) well(t *testing.T, xs []*talker) {
	t.Helper()
	for _, x := range xs {
		m := &member{Node: x.Node}
		last := "none was asked"
		defer func() {
			if t.Failed() {
				t.Log("the last question of node", last)
			}
		}()
		s.eventually(t, "a question of node "+x.Name()+" that all answer", func() bool {
			o := m.askFor(t, 5*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
			last = fmt.Sprintf("%s: %d answers, error %v", x.Name(), len(o.answers), o.err)
			return o.err == nil && len(o.answers) == len(xs)-1
		})
	}
}

func faultRestart(t *testing.T, r *Rig, _ []*Proxy) {
	if r.Kill == nil {
		t.Skip("this medium cannot be killed")
	}
	r.Kill()
	time.Sleep(2 * time.Second)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
}

func faultFreeze(t *testing.T, r *Rig, _ []*Proxy) {
	if r.Freeze == nil {
		t.Skip("this medium cannot be frozen")
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
}

func faultCut(t *testing.T, _ *Rig, ps []*Proxy) {
	for round := range 10 {
		for i, p := range ps {
			p.Cut(1 + (round*7919+i*104729)%5000)
		}
		time.Sleep(150 * time.Millisecond)
	}
}

// faultHalfOpen is a way that swallows everything without a word, until it ends.
func faultHalfOpen(t *testing.T, _ *Rig, ps []*Proxy) {
	ps[0].Hold()
	time.Sleep(5 * time.Second)
	ps[0].CutAll()
	ps[0].Release()
}

// faultPartition is a way that is silent for a while, and then delivers everything late.
func faultPartition(t *testing.T, _ *Rig, ps []*Proxy) {
	ps[1].Hold()
	time.Sleep(3 * time.Second)
	ps[1].Release()
}

// TestFault is TestFaults for the one fault that cause makes happen. Where a medium is more than one
// server, r.Open may ignore the address it is given.
func TestFault(t *testing.T, r *Rig, cause func(t *testing.T)) {
	(&suite{}).fault(t, r, func(t *testing.T, _ *Rig, _ []*Proxy) { cause(t) })
}
