package demo

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/event"
)

// A chat is one node's part of the chat.
type chat struct {
	node    string
	ns      *atoll.Namespace
	memory  memory
	deliver atomic.Uint64
	changed chan struct{} // has room for one: somebody came, went or was renamed

	mu     sync.Mutex
	guests map[*atoll.Socket]*guest
}

// A guest is what a node knows of one of its sockets.
type guest struct {
	person
	lines *rate.Limiter // what they say
	asks  *rate.Limiter // what else they ask for
}

var errNotOurs = &atoll.ConnectError{Message: "the chat needs a tab id and a name"}

func newChat(srv *atoll.Server, node string) *chat {
	c := &chat{node: node, ns: srv.Of("/"), changed: make(chan struct{}, 1), guests: make(map[*atoll.Socket]*guest)}
	c.ns.OnConnect(c.enter)
	c.ns.OnDisconnect(c.leave)
	atoll.Answer(c.ns, say, c.say)
	atoll.On(c.ns, rename, c.rename)
	atoll.On(c.ns, event.Name[event.None](typing), c.typing)
	atoll.On(c.ns, event.Name[event.None](catchUp), c.catchUp)
	atoll.OnServer(c.ns, remember, func(_ context.Context, m Message) error {
		c.memory.add(m)
		c.deliver.Add(uint64(c.ns.Sockets()))
		return nil
	})
	atoll.AnswerServer(c.ns, memories, func(context.Context, event.None) ([]Message, error) {
		return c.memory.last(remembers), nil
	})
	return c
}

// learn asks the other nodes what was said before this one came.
func (c *chat) learn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var failed error
	for list, err := range memories.AskAll(ctx, c.ns.ServerSide(), event.None{}) {
		if err != nil {
			failed = err // a node that is just ending; the others have answered
			continue
		}
		for _, m := range list[:min(len(list), remembers)] {
			c.memory.add(m)
		}
	}
	return failed
}

func (c *chat) enter(ctx context.Context, s *atoll.Socket) error {
	g := &guest{lines: rate.NewLimiter(20, 60), asks: rate.NewLimiter(2, 10)}
	if err := s.Auth(&g.person); err != nil || !validTab(g.Tab) {
		return errNotOurs
	}
	g.Name = clean(g.Name, maxName)
	s.SetData(g.person)
	c.mu.Lock()
	c.guests[s] = g
	c.mu.Unlock()
	c.tell()
	history := shown
	if g.Back {
		history = remembers // it may have missed something
	}
	err := welcome.Emit(ctx, s, greeting{Node: c.node, History: c.memory.last(history)})
	if err != nil {
		c.leave(s, nil) // OnDisconnect is for those who were let in
	}
	return err
}

func (c *chat) leave(s *atoll.Socket, _ *atoll.DisconnectError) {
	c.mu.Lock()
	delete(c.guests, s)
	c.mu.Unlock()
	c.tell()
}

func (c *chat) guest(s *atoll.Socket) *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guests[s]
}

var errNoGuest = errors.New("the socket is in the chat no more")

// say passes a line on to everybody. The answer says that it was: a browser that gets
// none sends the line again, to whichever node it has by then.
func (c *chat) say(ctx context.Context, s *atoll.Socket, line Line) (verdict, error) {
	g := c.guest(s)
	if g == nil {
		return verdict{}, errNoGuest
	}
	text := strings.TrimSpace(line.Text)
	switch {
	case line.Seq == 0 || text == "":
		return verdict{Why: "There is nothing to say in that."}, nil
	case utf8.RuneCountInString(text) > maxText:
		return verdict{Why: "That is too long: 500 characters at most."}, nil
	}
	if err := g.lines.Wait(ctx); err != nil { // who is too fast waits, and loses nothing
		return verdict{}, err
	}
	m := Message{Tab: g.Tab, Seq: line.Seq, Name: clean(line.Name, maxName), Text: text, Node: c.node, At: time.Now().UnixMilli()}
	c.memory.add(m)
	c.deliver.Add(uint64(c.ns.Sockets()))

	// First into the memories, then to the browsers: who connects in between finds it in one of the two.
	if err := remember.Emit(ctx, c.ns.ServerSide(), m); err != nil {
		return verdict{}, err
	}
	if err := said.Emit(ctx, c.ns, m); err != nil {
		return verdict{}, err
	}
	return verdict{OK: true}, nil
}

func (c *chat) rename(_ context.Context, s *atoll.Socket, name string) error {
	c.mu.Lock()
	if g := c.guests[s]; g != nil && g.asks.Allow() {
		g.Name = clean(name, maxName)
	}
	c.mu.Unlock()
	c.tell()
	return nil
}

func (c *chat) typing(ctx context.Context, s *atoll.Socket, _ event.None) error {
	c.mu.Lock()
	g := c.guests[s]
	var p person
	if g != nil {
		p = person{Tab: g.Tab, Name: g.Name}
	}
	c.mu.Unlock()
	if g == nil || !g.asks.Allow() {
		return nil
	}
	return typing.Emit(ctx, s.Broadcast().Volatile(), p)
}

func (c *chat) catchUp(ctx context.Context, s *atoll.Socket, _ event.None) error {
	if g := c.guest(s); g == nil || !g.asks.Allow() {
		return nil
	}
	return catchUp.Emit(ctx, s, c.memory.since(time.Now().Add(-recently), remembers))
}

// tell wakes the reporter.
func (c *chat) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// clients lists who is here, a bounded number.
func (c *chat) clients() []Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Client, 0, min(len(c.guests), maxNode))
	for s, g := range c.guests {
		if len(list) == maxNode {
			break
		}
		list = append(list, Client{Tab: g.Tab, Name: g.Name, Transport: s.Transport()})
	}
	return list
}

func validTab(tab string) bool {
	if tab == "" || len(tab) > maxTab {
		return false
	}
	return !strings.ContainsFunc(tab, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// clean makes a name of what somebody typed: printable, at most limit characters, not empty.
func clean(name string, limit int) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, name)), " ")
	if r := []rune(name); len(r) > limit {
		name = strings.TrimSpace(string(r[:limit]))
	}
	if name == "" {
		return "?"
	}
	return name
}
