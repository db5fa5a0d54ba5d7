//go:build unix

package redistest

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/freeport"
)

// A Cluster is a Redis Cluster of servers that a test started.
type Cluster struct {
	Servers []*Server // those that began as primaries first
}

// Slots is how many slots a Redis Cluster has.
const Slots = 16384

// StartCluster starts three servers that are one Redis Cluster, and returns their addresses. They end
// with t. It skips t where redis-server or redis-cli is not installed.
func StartCluster(t testing.TB) []string {
	t.Helper()
	return startCluster(t, 0).Addrs()
}

// StartReplicated starts a Redis Cluster of three primaries with one replica each, which end with t. A replica
// takes over about three seconds after its primary was killed. It skips t where
// redis-server or redis-cli is not installed.
func StartReplicated(t testing.TB) *Cluster {
	t.Helper()
	return startCluster(t, 1)
}

func startCluster(t testing.TB, replicas int) *Cluster {
	t.Helper()
	need(t, "redis-server", "redis-cli")
	c := &Cluster{}
	for range 3 * (1 + replicas) {
		bus, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		c.Servers = append(c.Servers, run(t, settings{binary: "redis-server", args: []string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000",
			"--repl-diskless-sync-delay", "0",
		}}))
	}
	args := append([]string{"--cluster", "create"}, c.Addrs()...)
	cmd := exec.Command("redis-cli", append(args, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")...)
	cmd.WaitDelay = time.Second
	stop := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	stop.Stop()
	if err != nil {
		t.Fatalf("redis-cli: %v: %s", err, out)
	}
	wait(t, func() string {
		for _, s := range c.Servers {
			if missing := s.lacks(len(c.Servers), 3*replicas); missing != "" {
				return missing
			}
		}
		return ""
	})
	return c
}

// lacks says what the server does not see of a cluster of so many servers, so many of them replicas
// that are in step.
func (s *Server) lacks(servers, replicas int) string {
	info, err := s.Do("CLUSTER", "INFO")
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprint(info)
	if !strings.Contains(text, "cluster_state:ok") || !strings.Contains(text, fmt.Sprintf("cluster_known_nodes:%d\r", servers)) {
		return s.Addr() + " does not see the whole cluster"
	}
	nodes, err := s.Do("CLUSTER", "NODES")
	if err != nil {
		return err.Error()
	}
	if n := strings.Count(fmt.Sprint(nodes), "slave "); n != replicas {
		return fmt.Sprintf("%s sees %d replicas, not %d", s.Addr(), n, replicas)
	}
	info, err = s.Do("INFO", "replication")
	if err != nil {
		return err.Error()
	}
	if text := fmt.Sprint(info); strings.Contains(text, "role:slave") && !strings.Contains(text, "master_link_status:up") {
		return s.Addr() + " is not in step with its primary"
	}
	return ""
}

// Addrs returns the addresses of all servers.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Servers {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// living returns the servers that run.
func (c *Cluster) living() []*Server {
	return slices.DeleteFunc(slices.Clone(c.Servers), func(s *Server) bool { return !s.Running() })
}

// Slot returns the slot of a key, or of a channel for SPUBLISH.
func (c *Cluster) Slot(t testing.TB, key string) int {
	t.Helper()
	n, _ := c.living()[0].MustDo(t, "CLUSTER", "KEYSLOT", key).(int64)
	return int(n)
}

// Owner returns the server that serves a slot, in the opinion of the first server that runs.
func (c *Cluster) Owner(t testing.TB, slot int) *Server {
	t.Helper()
	owner := c.ownerBy(c.living()[0], slot)
	if owner == nil {
		t.Fatalf("redistest: nobody serves slot %d", slot)
	}
	return owner
}

// ownerBy returns who serves a slot in the opinion of s, nil where s does not say.
func (c *Cluster) ownerBy(s *Server, slot int) *Server {
	answer, err := s.Do("CLUSTER", "SLOTS")
	if err != nil {
		return nil
	}
	ranges, _ := answer.([]any)
	for _, r := range ranges {
		r, _ := r.([]any)
		if len(r) < 3 {
			continue
		}
		first, _ := r[0].(int64)
		last, _ := r[1].(int64)
		primary, _ := r[2].([]any)
		if slot < int(first) || slot > int(last) || len(primary) < 2 {
			continue
		}
		port, _ := primary[1].(int64)
		for _, o := range c.Servers {
			if o.port == int(port) {
				return o
			}
		}
	}
	return nil
}

// Promoted waits until another server than before serves a slot, in the opinion of all that run, and
// returns it.
func (c *Cluster) Promoted(t testing.TB, slot int, before *Server) *Server {
	t.Helper()
	var owner *Server
	wait(t, func() string {
		owner = nil
		for _, s := range c.living() {
			o := c.ownerBy(s, slot)
			if o == nil || o == before || owner != nil && o != owner {
				return fmt.Sprintf("%s does not see a new owner of slot %d", s.Addr(), slot)
			}
			owner = o
			if info, err := s.Do("CLUSTER", "INFO"); err != nil || !strings.Contains(fmt.Sprint(info), "cluster_state:ok") {
				return s.Addr() + " does not see the whole cluster"
			}
		}
		return ""
	})
	return owner
}

// MoveSlot moves a slot with its keys to the primary to, while clients use it.
func (c *Cluster) MoveSlot(t testing.TB, slot int, to *Server) {
	t.Helper()
	from := c.Owner(t, slot)
	if from == to {
		return
	}
	n := strconv.Itoa(slot)
	fromID, toID := fmt.Sprint(from.MustDo(t, "CLUSTER", "MYID")), fmt.Sprint(to.MustDo(t, "CLUSTER", "MYID"))
	to.MustDo(t, "CLUSTER", "SETSLOT", n, "IMPORTING", fromID)
	from.MustDo(t, "CLUSTER", "SETSLOT", n, "MIGRATING", toID)
	for {
		keys, _ := from.MustDo(t, "CLUSTER", "GETKEYSINSLOT", n, "100").([]any)
		if len(keys) == 0 {
			break
		}
		args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000", "KEYS"}
		for _, k := range keys {
			args = append(args, fmt.Sprint(k))
		}
		from.MustDo(t, args...)
	}
	to.MustDo(t, "CLUSTER", "SETSLOT", n, "NODE", toID)
	from.MustDo(t, "CLUSTER", "SETSLOT", n, "NODE", toID)
	c.Promoted(t, slot, from)
}

// Primaries returns the servers that serve slots, in the opinion of the first that runs.
func (c *Cluster) Primaries(t testing.TB) []*Server {
	t.Helper()
	var primaries []*Server
	for slot := 0; slot < Slots; slot += 64 {
		if o := c.Owner(t, slot); !slices.Contains(primaries, o) {
			primaries = append(primaries, o)
		}
		if len(primaries) == 3 {
			break
		}
	}
	return primaries
}
