package natsbus

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const envServer = "ATOLL_NATSBUS_SERVER" // address and directory of the server that this process is to be

// serverMain runs a NATS server with JetStream, as an operator would, until standard input ends.
func serverMain(address, dir string) error {
	host, port, err := splitAddress(address)
	if err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		Host: host, Port: port, NoSigs: true, NoLog: true, MaxPayload: 64 << 20, MaxPending: 128 << 20,
		JetStream: true, StoreDir: dir,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("not listening on %s", address)
	}
	fmt.Println(s.Addr())
	io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// A serverProcess is a NATS server in a process of its own.
type serverProcess struct {
	addr, dir string
	cmd       *exec.Cmd
}

func startServer(t testing.TB) *serverProcess {
	t.Helper()
	p := &serverProcess{addr: "127.0.0.1:0", dir: t.TempDir()}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// Restart starts the server, again after Kill, at the same address and with the same directory.
func (p *serverProcess) Restart() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(exe)
	p.cmd.Env = append(os.Environ(), envServer+"="+p.addr+" "+p.dir)
	p.cmd.Stderr = os.Stderr
	dieWithUs(p.cmd)
	if _, err := p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	word, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server says %q: %w", word, err)
	}
	p.addr = strings.TrimSpace(word)
	return nil
}

// Kill ends the server at once.
func (p *serverProcess) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *serverProcess) url() string { return "nats://" + p.addr }
