//go:build unix

package proxies

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/freeport"
)

// A process is a program that a test started.
type process struct {
	cmd   *exec.Cmd
	log   string // a file with what it says
	ended chan struct{}
}

// launch starts a program in dir, which ends with t.
func launch(t testing.TB, dir, bin string, args ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(dir, fmt.Sprintf("%s-%d.log", filepath.Base(bin), rand.Uint32())), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	stdin, err := p.cmd.StdinPipe() // it ends with us
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		stdin.Close()
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		// Not soon: the children of Apache httpd would live on.
		kill := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		<-p.ended
		kill.Stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(bin), p.said())
		}
	})
	return p
}

// said returns the end of what the process said.
func (p *process) said() string {
	b, _ := os.ReadFile(p.log)
	if len(b) > 3000 {
		b = b[len(b)-3000:]
	}
	return string(b)
}

// kill ends the process at once, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// await polls until the process is ready, for 20 seconds at most.
func (p *process) await(t testing.TB, ready func() error) {
	t.Helper()
	err := errors.New("not asked")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %s", p.cmd.Path, p.said())
		default:
		}
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatalf("%s is not ready after 20 s: %v: %s", p.cmd.Path, err, p.said())
}

// accepts returns a check that the address takes connections.
func accepts(addr string) func() error {
	return func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// find returns where a program is, also where an ordinary user does not look.
func find(program string) (string, bool) {
	switch program {
	case "traefik":
		return findTraefik()
	case "atoll": // startWorld builds it
		return program, true
	}
	if path, err := exec.LookPath(program); err == nil {
		return path, true
	}
	for _, dir := range strings.Fields("/usr/sbin /sbin /usr/local/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, true
		}
	}
	return "", false
}
