//go:build unix

package redistest_test

import (
	"crypto/tls"
	"testing"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	s := redistest.Start(t)
	s.MustDo(t, "SET", "k", "a\r\nb")
	if got := s.MustDo(t, "GET", "k"); got != "a\r\nb" {
		t.Errorf("got %q, want what was set", got)
	}
	if _, err := s.Do("NO-SUCH"); err == nil {
		t.Error("a wrong command: got no error, want one")
	}
	s.AddUser(t, "app", "secret", "~*", "&*", "+@all")
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := s.MustDo(t, "GET", "k"); got != nil {
		t.Errorf("after Restart, got %q, want nothing", got)
	}
}

func TestTLS(t *testing.T) {
	s := redistest.StartTLS(t)
	if _, err := s.Do("PING"); err != nil {
		t.Error(err)
	}
	c, err := tls.Dial("tcp", s.Addr(), &tls.Config{MinVersion: tls.VersionTLS12})
	if err == nil {
		c.Close()
		t.Error("a client without the certificate: got in, want it refused")
	}
}

func TestValkey(t *testing.T) { redistest.StartValkey(t).MustDo(t, "PING") }

func TestSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some ten seconds")
	}
	s := redistest.StartSentinel(t)
	first := s.Master()
	killed, now := s.Failover(t)
	if killed != first || now == first || now == nil {
		t.Errorf("got another master %v after %v, want the replica", now, killed)
	}
}

func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some ten seconds")
	}
	c := redistest.StartReplicated(t)
	slot := c.Slot(t, "k")
	owner := c.Owner(t, slot)
	owner.MustDo(t, "SET", "k", "v")
	for _, p := range c.Primaries(t) {
		if p != owner {
			c.MoveSlot(t, slot, p)
			break
		}
	}
	moved := c.Owner(t, slot)
	if moved == owner {
		t.Error("the slot has not moved")
	}
	if got := moved.MustDo(t, "GET", "k"); got != "v" {
		t.Errorf("where the slot went: got %v, want v", got)
	}
	moved.Kill()
	if now := c.Promoted(t, slot, moved); now == moved {
		t.Error("got the killed server, want its replica")
	}
}
