//go:build unix

package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKill kills a server and starts it again: what it committed is there.
func TestKill(t *testing.T) {
	s := Start(t)
	database := s.Database(t)
	exec := func(sql string) error {
		c, err := pgx.Connect(t.Context(), s.URL(database))
		if err != nil {
			return err
		}
		defer c.Close(t.Context())
		_, err = c.Exec(t.Context(), sql)
		return err
	}
	if err := exec("CREATE TABLE t (n int); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Kill()
		if err := exec("SELECT 1"); err == nil {
			t.Fatal("a server that was killed answers")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := exec("SELECT 1 / n FROM t"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := exec("SELECT 1"); err != nil {
		t.Fatal(err)
	}
}
