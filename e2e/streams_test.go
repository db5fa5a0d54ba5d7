//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
)

func init() {
	media = append(media,
		streams("streams", redisstream.Options{}, object{}),
		streams("streams with all options",
			redisstream.Options{
				StreamName: "st", StreamCount: 3, ChannelPrefix: "mine", MaxLen: 500, ReadCount: 7, BlockTime: 100 * time.Millisecond,
				UseShardedPubSub: true,
			},
			object{
				"streamName": "st", "streamCount": 3, "channelPrefix": "mine", "maxLen": 500, "readCount": 7, "blockTimeInMs": 100,
				"useShardedPubSub": true,
			}),
	)
}

// streams is @socket.io/redis-streams-adapter.
func streams(name string, o redisstream.Options, adapter object) medium {
	o.Logger = quiet
	return medium{name, func(t testing.TB) *place {
		redis := redistest.Start(t)
		return &place{
			bus: func(t testing.TB) cluster.Bus {
				bus := redisstream.New(dial(t, redis.Addr()), &o)
				t.Cleanup(func() { bus.Close() })
				return bus
			},
			adapter: object{"kind": "streams", "url": "redis://" + redis.Addr(), "options": adapter},
			redis:   redis,
		}
	}}
}

// TestStreamsRecovery has the official client lose its connection again and again, and come back to another node each time, Atoll
// and Node.js by turns: it is recovered, and gets what it has missed in order, each once.
func TestStreamsRecovery(t *testing.T) {
	m := streams("", redisstream.Options{}, object{})
	p := m.start(t)
	urls := make([]string, 4)
	js := []*peer{startPeer(t), startPeer(t)}
	for i, peer := range js {
		var served struct{ Port int }
		r := peer.do(t, "serve", object{"adapter": p.adapter, "options": object{"connectionStateRecovery": object{}}})
		if err := json.Unmarshal(r, &served); err != nil {
			t.Fatal(err)
		}
		urls[2*i+1] = fmt.Sprintf("http://127.0.0.1:%d", served.Port)
	}
	var srv *atoll.Server
	for _, i := range []int{0, 2} {
		node, err := cluster.Join(t.Context(), p.bus(t), &cluster.Options{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		own := atoll.NewServer(&atoll.Options{Cluster: node, Recovery: &recovery.Options{}, Logger: quiet})
		srv = own // the last one emits
		web := httptest.NewServer(own)
		urls[i] = web.URL
		t.Cleanup(func() {
			own.Close()
			web.Close()
		})
		own.Of("/").OnConnect(func(_ context.Context, s *atoll.Socket) error {
			if !s.Recovered() {
				s.Join("red")
			}
			return nil
		})
	}
	clients := startPeer(t)
	type state struct {
		SID       string
		PID       string
		Recovered bool
	}
	connect := func(url string) (s state) {
		t.Helper()
		if err := json.Unmarshal(clients.do(t, "comeBack", object{"name": "g", "url": url, "auth": object{"rooms": []string{"red"}}}), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	begin := connect(urls[0])
	var want []string
	n := 0
	emit := func() { // by each kind of node
		t.Helper()
		if err := srv.Of("/").To("red").Emit(t.Context(), "m", n); err != nil {
			t.Fatal(err)
		}
		js[0].do(t, "emit", object{"rooms": []string{"red"}, "event": "m", "args": []any{n + 1}})
		want = append(want, fmt.Sprint(n), fmt.Sprint(n+1))
		n += 2
	}
	got := func() (ns []string) {
		clients.mu.Lock()
		defer clients.mu.Unlock()
		for _, r := range clients.reports {
			if r.Event == "m" {
				ns = append(ns, string(r.Args[0]))
			}
		}
		return ns
	}
	for round := range 8 {
		emit()
		eventually(t, "what is emitted", func() bool { return len(got()) >= len(want) })
		clients.do(t, "lose", object{"name": "g"})
		emit()
		eventually(t, "the session", func() bool { // Node.js nodes write it only now
			return p.redis.MustDo(t, "EXISTS", "sio:session:"+begin.PID) == int64(1)
		})
		now := connect(urls[(round+1)%4])
		if !now.Recovered || now.SID != begin.SID {
			t.Fatalf("round %d: got %+v, want the socket %s recovered", round, now, begin.SID)
		}
		emit()
		eventually(t, "what was missed", func() bool { return len(got()) >= len(want) })
	}
	if !slices.Equal(got(), want) {
		t.Errorf("got %v, want each of %d events once, in order", got(), n)
	}
}
