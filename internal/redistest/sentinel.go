//go:build unix

package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Sentinel is a master and a replica that three sentinels watch. About three seconds after the
// master was killed, the replica is the master.
type Sentinel struct {
	Servers   []*Server // the first master, and its replica
	Sentinels []*Server
}

// MasterName is what the sentinels call the master.
const MasterName = "mymaster"

// StartSentinel starts a master, a replica and three sentinels, which end with t. It takes about ten
// seconds. It skips t where redis-server is not installed.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	need(t, "redis-server")
	master := Start(t, "--repl-diskless-sync-delay", "0")
	replica := Start(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.port), "--repl-diskless-sync-delay", "0")
	s := &Sentinel{Servers: []*Server{master, replica}}
	// A sentinel asks the master only every ten seconds for its replicas: it shall find this one at once.
	wait(t, func() string {
		if n, _ := master.Do("INFO", "replication"); !strings.Contains(fmt.Sprint(n), "state=online") {
			return "the replica is not online"
		}
		return ""
	})
	for range 3 {
		dir := t.TempDir()
		conf := filepath.Join(dir, "sentinel.conf")
		text := fmt.Sprintf("dir %s\nsentinel monitor %s 127.0.0.1 %d 2\nsentinel down-after-milliseconds %[2]s 1000\n"+
			"sentinel failover-timeout %[2]s 3000\nsentinel parallel-syncs %[2]s 1\n", dir, MasterName, master.port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Sentinels = append(s.Sentinels, run(t, settings{binary: "redis-server", conf: conf}))
	}
	wait(t, func() string {
		for _, x := range s.Sentinels {
			quorum, err := x.Do("SENTINEL", "CKQUORUM", MasterName)
			if err != nil || !strings.HasPrefix(fmt.Sprint(quorum), "OK 3") {
				return fmt.Sprintf("a sentinel does not know the others: %v %v", quorum, err)
			}
			replicas, err := x.Do("SENTINEL", "REPLICAS", MasterName)
			if list, _ := replicas.([]any); err != nil || len(list) != 1 {
				return "a sentinel does not know the replica"
			}
		}
		return ""
	})
	return s
}

// Addrs returns the addresses of the sentinels.
func (s *Sentinel) Addrs() []string {
	var addrs []string
	for _, x := range s.Sentinels {
		addrs = append(addrs, x.Addr())
	}
	return addrs
}

// Master returns the server that is the master in the opinion of the first sentinel that runs; nil where
// that is not known.
func (s *Sentinel) Master() *Server {
	for _, x := range s.Sentinels {
		if !x.Running() {
			continue
		}
		answer, _ := x.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
		if parts, _ := answer.([]any); len(parts) == 2 {
			for _, server := range s.Servers {
				if parts[1] == fmt.Sprint(server.port) {
					return server
				}
			}
		}
	}
	return nil
}

// Failover kills the master, waits until the replica is the master in the opinion of all sentinels, and
// returns both.
func (s *Sentinel) Failover(t testing.TB) (killed, now *Server) {
	t.Helper()
	killed = s.Master()
	if killed == nil {
		t.Fatal("redistest: the sentinels know no master")
	}
	killed.Kill()
	wait(t, func() string {
		if now = s.Master(); now == nil || now == killed {
			return "the sentinels have no new master"
		}
		role, err := now.Do("ROLE")
		if parts, _ := role.([]any); err != nil || len(parts) == 0 || parts[0] != "master" {
			return "the new master does not know that it is"
		}
		return ""
	})
	return killed, now
}
