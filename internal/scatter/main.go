// Command scatter is a crowd of long-polling clients, each request of which goes to a node of its own
// choice: what a balancer without stickiness does to a cluster. It checks that every session is
// served as if all had gone to one node: nothing refused, lost, doubled or out of order.
//
//	scatter -nodes host:port,host:port,... [-owners N] [-sessions N] [-rate N] [-mix] [-sticky]
//
// It opens the sessions, prints "ready", sends echoes at the given rate (or as fast as they are answered), and a broadcast now and
// then, until its standard input ends; then it waits (a minute at most) for what is still under way, prints
// a Report as JSON, and ends. Sessions are opened on the first -owners nodes only, so the others own none.
// A node whose connections are refused is not asked again; a GET whose connection broke is sent once more to
// another node, as proxies do, a POST is not.
//
// It needs nodes of internal/crowdnode.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Report is what the crowd has seen.
type Report struct {
	Sessions  int            // that were opened at first
	Echoes    int64          // that were sent
	Answered  int64          // acks that came, each once
	Events    int64          // broadcasts that arrived
	Seconds   float64        // from "ready" to the end of the input
	Problems  map[string]int // what must not be, and how often
	Ended     map[string]int // sessions that ended, by owner and why
	Reopened  int            // of them, how many were open again, elsewhere
	LatencyMS [3]float64     // of echoes: median, 90 %, 99 %
	Retried   int64          // GETs that were sent again because their connection broke
	Slowest   float64        // seconds from the end of a session to its being open again
}

func main() {
	nodes := flag.String("nodes", "", "addresses of the nodes")
	owners := flag.Int("owners", 0, "how many of them get sessions, from the first (0: all)")
	sessions := flag.Int("sessions", 1000, "how many sessions")
	rate := flag.Int("rate", 1000, "echoes per second, over all sessions; 0: as many as are answered, of 256 sessions at once")
	mix := flag.Bool("mix", false, "of three sessions one polls, one upgrades to WebSocket, and one begins with it")
	sticky := flag.Bool("sticky", false, "all requests of a session go to its owner, for comparison")
	broadcasts := flag.Duration("broadcasts", 2*time.Second, "pause between two broadcasts")
	flag.Parse()
	list := strings.Split(*nodes, ",")
	c := newCrowd(list, *owners, *sticky)
	c.mix = *mix
	if err := c.open(*sessions); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	start := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	if *rate > 0 {
		wg.Go(func() { c.talk(*rate, stop) })
	} else {
		wg.Go(func() { c.chatter(stop) })
	}
	wg.Go(func() { c.announce(*broadcasts, stop) })
	_, _ = io.Copy(io.Discard, os.Stdin) // its end is the message
	seconds := time.Since(start).Seconds()
	close(stop)
	wg.Wait()
	r := c.finish()
	r.Sessions, r.Seconds = *sessions, seconds
	out, err := json.Marshal(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(out))
}

// A crowd is all sessions and what they saw.
type crowd struct {
	pool   *pool
	owners int
	mix    bool

	speakers []speaker  // all sessions
	sessions []*session // those that poll

	mu       sync.Mutex
	problems map[string]int
	ended    map[string]int
	reopened int
	slowest  time.Duration
	closing  bool
	took     []time.Duration

	echoes, answered, events, retried atomic.Int64
	running                           sync.WaitGroup
}

// A speaker is a session of any transport.
type speaker interface {
	// echo sends the next number. It returns where that is done, or was not possible.
	echo()
	// answer is closed or gets a token when an echo was answered.
	answer() <-chan struct{}
}

func newCrowd(nodes []string, owners int, sticky bool) *crowd {
	if owners <= 0 || owners > len(nodes) {
		owners = len(nodes)
	}
	return &crowd{pool: newPool(nodes, sticky), owners: owners, problems: make(map[string]int), ended: make(map[string]int)}
}

func (c *crowd) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems[fmt.Sprintf(format, args...)]++
}

// heardBack notes that an echo was answered.
func (c *crowd) heardBack(after time.Duration) {
	c.answered.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, after)
}

// open opens n sessions, some at a time.
func (c *crowd) open(n int) error {
	c.speakers = make([]speaker, n)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	next := atomic.Int64{}
	for range 64 {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				var err error
				if c.speakers[i], err = c.enter(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	for _, s := range c.speakers {
		if s, ok := s.(*session); ok {
			c.sessions = append(c.sessions, s)
		}
	}
	return nil
}

// enter opens the i-th session.
func (c *crowd) enter(i int) (speaker, error) {
	if c.mix && i%3 > 0 {
		return c.dial(i/3%c.owners, i%3 == 1)
	}
	s := &session{c: c, answers: make(chan struct{}, 1)}
	owner := i
	if c.mix {
		owner /= 3
	}
	s.owner.Store(int64(owner % c.owners))
	if err := s.open(); err != nil {
		return nil, err
	}
	c.running.Go(s.run)
	return s, nil
}

// chatter has 256 sessions at once send echoes, each as soon as the last was answered.
func (c *crowd) chatter(stop <-chan struct{}) {
	var wg sync.WaitGroup
	defer wg.Wait()
	const atOnce = 256
	for i := range min(atOnce, len(c.speakers)) {
		wg.Go(func() {
			for ; ; i = (i + atOnce) % len(c.speakers) {
				s := c.speakers[i]
				s.echo()
				select {
				case <-s.answer():
				case <-stop:
					return
				case <-time.After(time.Second): // it has ended, and is opened anew
				}
			}
		})
	}
}

// talk sends echoes, each by the next session, at the given rate.
func (c *crowd) talk(rate int, stop <-chan struct{}) {
	var wg sync.WaitGroup
	defer wg.Wait()
	work := make(chan speaker)
	defer close(work)
	for range 256 {
		wg.Go(func() {
			for s := range work {
				s.echo()
			}
		})
	}
	start, sent := time.Now(), 0
	for i := 0; ; i++ {
		if due := int(time.Since(start).Seconds() * float64(rate)); sent >= due {
			time.Sleep(time.Millisecond)
			i--
			select {
			case <-stop:
				return
			default:
			}
			continue
		}
		sent++
		select {
		case work <- c.speakers[i*7919%len(c.speakers)]: // a prime, so neighbours own different nodes
		case <-stop:
			return
		}
	}
}

// announce has a session emit a numbered event to everybody.
func (c *crowd) announce(pause time.Duration, stop <-chan struct{}) {
	if pause <= 0 {
		return
	}
	t := time.NewTicker(pause)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		for i, s := range c.sessions {
			if i >= c.owners { // the first of each owner
				break
			}
			s.announce()
		}
	}
}

// finish waits for what is under way, closes the sessions, and adds up.
func (c *crowd) finish() *Report {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && c.waiting() > 0; time.Sleep(20 * time.Millisecond) {
	}
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	for _, s := range c.sessions {
		if n := s.pendingEchoes(); n > 0 {
			c.problem("an echo was not answered")
		}
	}
	for _, s := range c.speakers {
		if s, ok := s.(*dialled); ok {
			_ = s.sock.Close()
		}
	}
	c.pool.close()
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Report{
		Echoes: c.echoes.Load(), Answered: c.answered.Load(), Events: c.events.Load(), Retried: c.retried.Load(),
		Problems: c.problems, Ended: c.ended, Reopened: c.reopened, Slowest: c.slowest.Seconds(),
	}
	slices.Sort(c.took)
	for i, q := range []float64{0.5, 0.9, 0.99} {
		if n := len(c.took); n > 0 {
			r.LatencyMS[i] = float64(c.took[int(q*float64(n-1))].Microseconds()) / 1000
		}
	}
	return r
}

// waiting returns how many echoes are not answered, and how many sessions are not open again.
func (c *crowd) waiting() (n int) {
	for _, s := range c.sessions {
		n += s.pendingEchoes()
		s.mu.Lock()
		if !s.up {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

func (c *crowd) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}
