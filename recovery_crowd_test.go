package atoll_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/recovery"
)

// All clients of a node come to another one at once, and the store serves one request at a time, so that all together
// take longer than one may: everybody gets a turn, and his session with what was missed. The other nodes are told by few
// messages.
func TestRecoveryOfACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, each = 300, 20 * time.Millisecond
		memory := recovery.NewMemory(nil)
		var hub membus.Hub
		one := make(chan struct{}, 1)
		taken := 0
		slow := func(what string) {
			one <- struct{}{}
			defer func() { <-one }()
			if what == "take" {
				taken++
			}
			time.Sleep(each)
		}
		lobby := new(lobby)
		start := func(name string) *atolltest.Node {
			return atolltest.Start(t, &hub, name, &atolltest.NodeOptions{
				Log:    true,
				Server: atoll.Options{Recovery: &recovery.Options{Sessions: &store{Sessions: memory, slow: slow}}},
				Setup:  func(srv *atoll.Server) { lobby.register(srv, "/") },
			})
		}
		home, other := start("home"), start("other")
		callers := make([]*caller, clients)
		for i := range callers {
			callers[i] = call(t, home.Server, "/", map[string]any{"rooms": []string{fmt.Sprint("room", i%10)}})
		}
		emitAll(t, other.Of("/"), "before")
		for _, c := range callers {
			c.want(t, "e:before")
			c.line.up(other.Server)
			c.line.vanish() // home is not told, so it must hear of it from the other node
		}
		for i := range 10 {
			emitAll(t, other.Of("/").To(fmt.Sprint("room", i)), fmt.Sprint("missed", i))
		}
		began, before := time.Now(), other.Cluster.Stats().Published
		var wg sync.WaitGroup
		for _, c := range callers {
			wg.Go(func() { c.wait(t, true) })
		}
		wg.Wait()
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("all were back after %v: the store is too quick for this test", took)
		}
		for i, c := range callers {
			c.want(t, fmt.Sprint("e:missed", i%10))
		}
		if taken != clients {
			t.Errorf("got %d sessions taken for %d clients, want one each", taken, clients)
		}
		if got := other.Cluster.Stats().Published - before; got > clients*3/4 {
			t.Errorf("got %d messages to other nodes for %d clients, want far fewer", got, clients)
		}
		time.Sleep(time.Second)
		if n := home.Of("/").Sockets(); n != 0 {
			t.Errorf("got %d sockets on the node that they came from, want none", n)
		}
		emitAll(t, home.Of("/"), strings.Repeat("x", 3))
		for _, c := range callers {
			c.want(t, "e:xxx")
		}
	})
}

// The store hangs when all clients of a node come to another one: nobody waits behind all the others, each as long as
// the store may take. They are connected anew.
func TestRecoveryOfACrowdWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 400
		var hangs atomic.Bool
		memory := recovery.NewMemory(nil)
		var hub membus.Hub
		lobby := new(lobby)
		start := func(name string) *atolltest.Node {
			return atolltest.Start(t, &hub, name, &atolltest.NodeOptions{
				Log: true,
				Server: atoll.Options{Recovery: &recovery.Options{Sessions: &store{Sessions: memory, slow: func(what string) {
					if what == "take" && hangs.Load() {
						time.Sleep(6 * time.Second)
					}
				}}}},
				Setup: func(srv *atoll.Server) { lobby.register(srv, "/") },
			})
		}
		home, other := start("home"), start("other")
		callers := make([]*caller, clients)
		for i := range callers {
			callers[i] = call(t, home.Server, "/", map[string]any{})
		}
		emitAll(t, home.Of("/"), "before")
		for _, c := range callers {
			c.want(t, "e:before")
			c.line.cut()
		}
		time.Sleep(time.Second)
		hangs.Store(true)
		began := time.Now()
		for _, c := range callers {
			c.line.up(other.Server)
		}
		for _, c := range callers {
			c.wait(t, false)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("all were connected after %v, want 20 s at most", took)
		}
		hangs.Store(false)
		emitAll(t, other.Of("/"), "after")
		for _, c := range callers {
			c.want(t, "e:after")
		}
	})
}
