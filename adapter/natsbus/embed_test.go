package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/atollhq/atoll/cluster"
)

var silent = slog.New(slog.DiscardHandler)

func mustEmbed(t *testing.T, o EmbedOptions) *Embedded {
	t.Helper()
	o.Logger = silent
	e, err := Embed(t.Context(), &o)
	if err != nil {
		t.Fatalf("Embed: %v", err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// eventually waits a minute at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute, got no: %s", what)
		}
	}
}

// meshed waits until all servers have routes to all others.
func meshed(t *testing.T, es ...*Embedded) {
	t.Helper()
	for _, e := range es {
		eventually(t, "routes to all others", func() bool {
			peers := e.Peers()
			return len(peers) == len(es)-1 && !slices.ContainsFunc(es, func(x *Embedded) bool {
				return x != e && !slices.Contains(peers, x.name)
			})
		})
	}
}

func TestNodesComeAndGoInAnyOrder(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	a, b, c := mustEmbed(t, o), mustEmbed(t, o), mustEmbed(t, o)
	if got := len(c.Peers()); got != 2 {
		t.Errorf("when Embed returns, got %d routes, want 2", got)
	}
	meshed(t, a, b, c)
	a.Close() // the first
	meshed(t, b, c)
	d := mustEmbed(t, o)
	meshed(t, b, c, d)
	b.Close()
	c.Close()
	meshed(t, d)
	e := mustEmbed(t, o)
	meshed(t, d, e)
	d.Close()
	e.Close()
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "atoll", "*"+recordSuffix)); len(left) > 0 {
		t.Errorf("got files %v left over, want none", left)
	}
}

func TestNodesStartAtOnce(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir(), Logger: silent}
	const count = 4
	started := make(chan *Embedded)
	for range count {
		go func() {
			e, err := Embed(t.Context(), &o)
			if err != nil {
				t.Errorf("Embed: %v", err)
			}
			started <- e
		}()
	}
	var es []*Embedded
	for range count {
		if e := <-started; e != nil {
			es = append(es, e)
			t.Cleanup(func() { e.Close() })
		}
	}
	meshed(t, es...)
}

func TestWhatDeadNodesLeft(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	a := mustEmbed(t, o)
	dir := filepath.Join(o.Dir, "atoll")
	stale := record{Name: "STALE", Route: "127.0.0.1:1", Client: "127.0.0.1:1", Started: time.Now().Add(-time.Hour)}
	b, _ := json.Marshal(stale)
	junk := map[string]string{"STALE.node": string(b), "JUNK.node": "{", "EMPTY.node": "", "x.node.new": "x", "other": "x"}
	for name, data := range junk {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	c := mustEmbed(t, o)
	if took := time.Since(start); took > time.Second {
		t.Errorf("got a start of %v, want it not to wait for a dead node", took)
	}
	meshed(t, a, c)
	if _, err := os.Stat(filepath.Join(dir, "STALE.node")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead node's file: got error %v, want it removed", err)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	e := mustEmbed(t, o)
	dir := filepath.Join(o.Dir, "atoll")
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: got mode %v, want it readable by its owner only", filepath.Base(path), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	e.Close()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	o.Logger = silent
	if e, err := Embed(t.Context(), &o); err == nil {
		e.Close()
		t.Error("a directory in which all can write: got no error, want one")
	} else if !strings.Contains(err.Error(), "0700") {
		t.Errorf("a directory in which all can write: got error %q, want one that says what to do", err)
	}
}

func TestDirectoryVanishes(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	a := mustEmbed(t, o)
	if err := os.RemoveAll(filepath.Join(o.Dir, "atoll")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node's file again", func() bool {
		_, err := os.Stat(filepath.Join(o.Dir, "atoll", a.name+recordSuffix))
		return err == nil
	})
	meshed(t, a, mustEmbed(t, o))
}

func TestStrangersAreRefused(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	e := mustEmbed(t, o)
	client := "nats://" + e.server.Addr().String()
	for name, opts := range map[string][]nats.Option{
		"no secret":        nil,
		"a wrong secret":   {nats.UserInfo(clientUser, "x")},
		"the route secret": {nats.UserInfo(routeUser, routeKey(e.o.Cluster, e.o.Secret))},
		"a token":          {nats.Token(e.o.Secret)},
	} {
		if c, err := nats.Connect(client, opts...); err == nil {
			c.Close()
			t.Errorf("client with %s: got in, want it refused", name)
		}
	}
	for name, x := range map[string]EmbedOptions{
		"another secret":  {Secret: "another secret, long enough", Routes: []string{e.Addr()}, NoDiscovery: true},
		"another cluster": {Secret: e.o.Secret, Cluster: "other", Routes: []string{e.Addr()}, NoDiscovery: true},
	} {
		s := mustEmbed(t, x) // waits two seconds for the route in vain
		if got := len(s.Peers()) + len(e.Peers()); got != 0 {
			t.Errorf("node with %s: got %d routes, want none", name, got)
		}
		s.Close()
	}
	for _, a := range []net.Addr{e.server.Addr(), e.server.ClusterAddr()} {
		if host, _, _ := net.SplitHostPort(a.String()); host != "127.0.0.1" {
			t.Errorf("got a listener on %s, want all on 127.0.0.1", a)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRoutes(t *testing.T) {
	addresses := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	opts := func(i int) EmbedOptions {
		return EmbedOptions{Listen: addresses[i], Routes: addresses, Secret: "sixteen characters", NoDiscovery: true}
	}
	a := mustEmbed(t, opts(0))
	b, c := mustEmbed(t, opts(1)), mustEmbed(t, opts(2))
	meshed(t, a, b, c)
	a.Close()
	meshed(t, b, c)
	a = mustEmbed(t, opts(0))
	meshed(t, a, b, c)
}

func TestEmbedOptions(t *testing.T) {
	for want, o := range map[string]EmbedOptions{
		"Secret has 5":      {Secret: "short"},
		"reached by other":  {Listen: "0.0.0.0:0"},
		"Routes need":       {Routes: []string{"127.0.0.1:1"}},
		"without discovery": {NoDiscovery: true},
		"no address":        {Listen: "localhost"},
		"EmbedOptions.Rout": {Routes: []string{"x"}, Secret: "sixteen characters"},
		"MaxPayload":        {MaxPayload: -1},
		"name of a cluster": {Cluster: "a b"},
	} {
		o.Dir, o.Logger = t.TempDir(), silent
		e, err := Embed(t.Context(), &o)
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Embed(%+v): got error %v, want one with %q", o, err, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if e, err := Embed(t.Context(), &EmbedOptions{Dir: t.TempDir(), Listen: l.Addr().String(), Logger: silent}); err == nil {
		e.Close()
		t.Error("an address that is taken: got no error, want one")
	}
}

func TestLocal(t *testing.T) {
	o := EmbedOptions{Dir: t.TempDir()}
	if _, err := Local(t.Context(), &o); err == nil || !strings.Contains(err.Error(), "no node") {
		t.Errorf("without a node: got error %v, want one that says so", err)
	}
	a, b := mustEmbed(t, o), mustEmbed(t, o)
	got := make(chan string, 10)
	for _, e := range []*Embedded{a, b} {
		if _, err := e.Bus().Subscribe(t.Context(), "t", func(_ string, m []byte) { got <- string(m) }); err != nil {
			t.Fatal(err)
		}
	}
	bus, err := Local(t.Context(), &o)
	if err != nil {
		t.Fatalf("Local: %v", err)
	}
	if err := bus.Publish(t.Context(), "t", []byte("x")); err != nil {
		t.Errorf("Publish: %v", err)
	}
	bus.Close() // at once, as a command does
	for range 2 {
		select {
		case <-got:
		case <-time.After(5 * time.Second):
			t.Fatal("the message did not come before 5 s")
		}
	}
	a.Close()
	b.Close()
	if _, err := Local(t.Context(), &o); err == nil {
		t.Error("when all nodes are gone: got no error, want one")
	}
}

// Who finds no node is told of those that it may have meant.
func TestLocalError(t *testing.T) {
	dir := t.TempDir()
	with := func(cluster, secret string) *EmbedOptions {
		return &EmbedOptions{Dir: dir, Cluster: cluster, Secret: secret}
	}
	mustEmbed(t, *with("shut", "0123456789abcdef"))
	mustEmbed(t, *with("open", ""))
	for _, c := range []struct {
		o      *EmbedOptions
		secret bool
		others []string
	}{
		{with("none", ""), false, []string{"open", "shut"}},
		{with("shut", ""), true, []string{"open"}},
		{with("shut", "another-secret-of-16"), true, []string{"open"}},
		{with("open", "another-secret-of-16"), true, []string{"shut"}},
	} {
		_, err := Local(t.Context(), c.o)
		e, ok := errors.AsType[*LocalError](err)
		if !ok || e.OtherSecret != c.secret || !slices.Equal(e.Others, c.others) {
			t.Errorf("cluster %s with the secret %q: got %+v, want OtherSecret %v, Others %v", c.o.Cluster, c.o.Secret, err, c.secret, c.others)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory was made, want that looking leaves nothing behind")
	}
}

func TestTooLarge(t *testing.T) {
	e := mustEmbed(t, EmbedOptions{Dir: t.TempDir(), MaxPayload: 1000})
	if err := e.Bus().Publish(t.Context(), "t", make([]byte, 1000)); err != nil {
		t.Errorf("1000 bytes: got error %v, want none", err)
	}
	err := e.Bus().Publish(t.Context(), "t", make([]byte, 1001))
	if !errors.Is(err, cluster.ErrTooLarge) || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("1001 bytes: got error %v, want cluster.ErrTooLarge, with the option's name", err)
	}
	if err := e.Bus().Publish(context.Background(), "t", []byte("x")); err != nil {
		t.Errorf("after that: got error %v, want none", err)
	}
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", ".", "a.b", "a..b", "*", ">", "%", "a b", "\xff", "$SYS.x", "_INBOX.x"} {
		f.Add(s, s+".")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := subject(a), subject(b)
		if (a == b) != (x == y) {
			t.Errorf("subject(%q) = %q and subject(%q) = %q", a, x, b, y)
		}
		for token := range strings.SplitSeq(x, ".") {
			if token == "" || strings.ContainsAny(token, " \t\r\n*>\x00") {
				t.Errorf("subject(%q) = %q: got token %q, want none like that", a, x, token)
			}
		}
	})
}
