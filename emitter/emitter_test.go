package emitter_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder is a Bus that keeps what was published last. A speaker speaks what the
// official packages speak on Redis.
type recorder struct {
	topic string
	data  []byte
	err   error
}

func (r *recorder) Publish(_ context.Context, topic string, msg []byte) error {
	r.topic, r.data = topic, append([]byte(nil), msg...)
	return r.err
}

func (r *recorder) Subscribe(context.Context, string, func(string, []byte)) (cluster.Subscription, error) {
	return nil, errors.New("an emitter does not subscribe")
}

func (r *recorder) Close() error { return nil }

type speaker struct{ recorder }

func (s *speaker) Dialect() cluster.Dialect { return redisbus.NewDialect(nil) }

type item struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
}

// official are the calls that were made with @socket.io/redis-emitter, by the name that
// they have in the recorded messages.
var official = map[string]func(ctx context.Context, em *emitter.Emitter) error{
	"01-emit-all": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Emit(ctx, "hello", 1, "2", map[string]any{"3": []any{true, nil, 4.5}})
	},
	"02-emit-room": func(ctx context.Context, em *emitter.Emitter) error {
		return em.To("room1").Emit(ctx, "news-item", item{10, "first"})
	},
	"03-emit-rooms-except": func(ctx context.Context, em *emitter.Emitter) error {
		return em.To("room1", "room2").Except("news").Emit(ctx, "tick", 3)
	},
	"05-emit-binary": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Emit(ctx, "file", []byte{0, 1, 2, 253, 254, 255}, struct {
			Name  string   `json:"name"`
			Parts [][]byte `json:"parts"`
		}{"a.bin", [][]byte{[]byte("hi")}})
	},
	"06-emit-unicode": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Emit(ctx, "chat", "héllo wörld — ✓ 🎉", map[string]string{"ключ": "значение"})
	},
	"07-emit-volatile": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Volatile().Emit(ctx, "v", 1)
	},
	"12-emit-namespace": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Of("/admin").Emit(ctx, "hello", 1, "2", map[string]any{"3": []any{true, nil, 4.5}})
	},
	"13-emit-namespace-noslash": func(ctx context.Context, em *emitter.Emitter) error {
		return em.Of("admin").To("room1").Emit(ctx, "news-item", item{10, "first"})
	},
	"14-sockets-join": func(ctx context.Context, em *emitter.Emitter) error {
		return em.In("room2").Join(ctx, "team-a", "team-b")
	},
	"15-sockets-leave": func(ctx context.Context, em *emitter.Emitter) error {
		return em.In("room2").Leave(ctx, "team-a")
	},
	"16-server-side-emit": func(ctx context.Context, em *emitter.Emitter) error {
		return em.ServerSideEmit(ctx, "sync", map[string]int{"rev": 12}, "x")
	},
	"17-server-side-emit-binary": func(ctx context.Context, em *emitter.Emitter) error {
		return em.ServerSide().Emit(ctx, "sync-bin", []byte{1, 2, 3, 4})
	},
	"18-disconnect-sockets": func(ctx context.Context, em *emitter.Emitter) error {
		return em.In("room2").Disconnect(ctx, false)
	},
	"19-disconnect-sockets-close": func(ctx context.Context, em *emitter.Emitter) error {
		return em.In("news").Disconnect(ctx, true)
	},
}

// TestOfficial checks that the same calls publish the same bytes as the official emitter's.
func TestOfficial(t *testing.T) {
	f, err := os.Open("../adapter/redisbus/testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var w struct {
			ID, Channel string
			Payload     []byte
		}
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(w.ID, "redis-emitter/")
		call := official[name]
		if !ok || call == nil {
			continue
		}
		seen++
		var bus speaker
		if err := call(t.Context(), emitter.New(&bus, nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if bus.topic != w.Channel || string(bus.data) != string(w.Payload) {
			t.Errorf("%s: got %q on %q, want %q on %q", name, bus.data, bus.topic, w.Payload, w.Channel)
		}
	}
	if seen != len(official) {
		t.Errorf("compared %d calls, want %d", seen, len(official))
	}
}

// TestNative checks what nodes read on media that have no format of their own.
func TestNative(t *testing.T) {
	var bus recorder
	em := emitter.New(&bus, nil)
	const said event.Name[item] = "said"
	if err := said.Emit(t.Context(), em.Of("/chat").To("a").Except("b").Compress(false), item{1, "t"}); err != nil {
		t.Fatal(err)
	}
	m, err := cluster.Native("").Decode("node", bus.topic, bus.data)
	if err != nil || m == nil || m.Op == nil {
		t.Fatalf("got %+v and error %v, want an operation", m, err)
	}
	op := m.Op
	if m.From != cluster.Emitter || op.Kind != cluster.Emit || op.Namespace != "/chat" || op.Flags != cluster.NoCompress ||
		strings.Join(op.Rooms, ",") != "a" || strings.Join(op.Except, ",") != "b" || string(op.Data) != `["said",{"id":1,"title":"t"}]` {
		t.Errorf("got %+v from %q", op, m.From)
	}
}

// TestShared checks that what is made from an Emitter does not change it, nor its other descendants.
func TestShared(t *testing.T) {
	var bus recorder
	base := emitter.New(&bus, nil).To("a", "b").Except("x")
	base.To("c")
	one, two := base.To("one").Except("y"), base.To("two").Volatile()
	for want, em := range map[string]*emitter.Emitter{"a,b x 0": base, "a,b,one x,y 0": one, "a,b,two x 1": two} {
		if err := em.Emit(t.Context(), "e"); err != nil {
			t.Fatal(err)
		}
		m, err := cluster.Native("").Decode("node", bus.topic, bus.data)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(m.Op.Rooms, ",") + " " + strings.Join(m.Op.Except, ",") + " " + string('0'+rune(m.Op.Flags))
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	var bus recorder
	em := emitter.New(&bus, nil)
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		if err := em.Emit(t.Context(), name); err == nil {
			t.Errorf("Emit of %q: got no error, want one", name)
		}
		if err := em.ServerSideEmit(t.Context(), name); err == nil {
			t.Errorf("ServerSideEmit of %q: got no error, want one", name)
		}
	}
	if err := em.Emit(t.Context(), "e", math.NaN()); err == nil {
		t.Error("Emit of NaN: got no error, want one")
	}
	if bus.data != nil {
		t.Errorf("got %q published, want nothing", bus.data)
	}
	bus.err = errors.New("away")
	if err := em.Join(t.Context(), "r"); !errors.Is(err, bus.err) {
		t.Errorf("got error %v, want one that wraps the bus's", err)
	}
}
