package supervise

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleEnv makes the test program one of those that are supervised.
const roleEnv = "ATOLL_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		play(role)
		return
	}
	goleak.VerifyTestMain(m)
}

// play is the program that is supervised.
func play(role string) {
	switch role {
	case "die":
		fmt.Println("dying")
		os.Exit(3)
	case "reap":
		reapOrphan()
		return
	case "stubborn":
		signal.Ignore(terminate)
	case "other port":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		time.Sleep(time.Hour)
	}
	fmt.Print("hello\nwithout end")
	ended := make(chan os.Signal, 1)
	if role != "stubborn" {
		signal.Notify(ended, terminate)
	}
	http.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(4) })
	go func() {
		err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
		fmt.Println(err)
		os.Exit(1)
	}()
	<-ended
}

// A rig is a supervisor that runs, and what it says.
type rig struct {
	*testing.T
	*Supervisor
	role   func(p Place) string
	ctx    context.Context
	cancel context.CancelFunc
	result chan error

	mu     sync.Mutex
	events []string
	up     []string // addresses of now
	out    bytes.Buffer
	log    bytes.Buffer
}

func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

type logWriter struct{ r *rig }

func (w logWriter) Write(b []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(b)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func supervise(t *testing.T, o Options, role func(p Place) string) *rig {
	t.Helper()
	r := &rig{T: t, role: role, result: make(chan error, 1)}
	o.Command = func(p Place) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"="+r.role(p), "PORT="+strconv.Itoa(p.Port), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
		return cmd
	}
	note := func(what string) func(string) {
		return func(addr string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, what)
			switch what {
			case "up":
				r.up = append(r.up, addr)
			case "gone":
				r.up = slices.DeleteFunc(r.up, func(a string) bool { return a == addr })
			}
		}
	}
	o.Up, o.Leaving, o.Gone = note("up"), note("leaving"), note("gone")
	o.Output, o.Logger = r, slog.New(slog.NewTextHandler(logWriter{r}, nil))
	r.Supervisor = New(o)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.result <- r.Supervisor.Run(r.ctx)
	}()
	t.Cleanup(func() {
		r.Hurry()
		r.cancel()
		<-done
	})
	return r
}

// until waits until n processes serve, and returns where.
func (r *rig) until(n int) []string {
	r.Helper()
	for range 3000 {
		r.mu.Lock()
		up := slices.Clone(r.up)
		r.mu.Unlock()
		if len(up) == n {
			return up
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Fatalf("not %d processes within 30 s\n%s", n, r.logged())
	return nil
}

func fine(Place) string { return "serve" }

func unixOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals")
	}
}

func TestProcessesAreKeptAlive(t *testing.T) {
	t.Parallel()
	unixOnly(t)
	r := supervise(t, Options{Nodes: 3}, fine)
	before := r.until(3)
	_, _ = http.Get("http://" + before[0] + "/die")
	var after []string
	for range 3000 {
		after = r.until(3)
		if !slices.Contains(after, before[0]) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if slices.Contains(after, before[0]) || !slices.Contains(after, before[1]) {
		t.Errorf("got %q after the first of %q has died, want another in its place", after, before)
	}
	if got := r.logged(); !strings.Contains(got, "exit status 4") {
		t.Errorf("got the log %q, want how it has ended", got)
	}
	r.cancel()
	if err := <-r.result; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
	r.result <- nil
	r.until(0)
	if n := strings.Count(r.out.String(), "] without end\n"); n != 4 {
		t.Errorf("got %d times the last line, want 4:\n%s", n, r.out.String())
	}
	if !strings.Contains(r.out.String(), "[2] hello\n") {
		t.Errorf("got %q, want [2] hello", r.out.String())
	}
}

func TestProcessesAreReplaced(t *testing.T) {
	t.Parallel()
	unixOnly(t)
	var mu sync.Mutex
	role := "serve"
	r := supervise(t, Options{Nodes: 2}, func(Place) string {
		mu.Lock()
		defer mu.Unlock()
		return role
	})
	before := r.until(2)
	r.mu.Lock()
	r.events = nil
	r.mu.Unlock()
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := r.until(2)
	if slices.Contains(after, before[0]) || slices.Contains(after, before[1]) {
		t.Errorf("got %q, want others than %q", after, before)
	}
	r.mu.Lock()
	if got, want := strings.Join(r.events, " "), "up leaving gone up leaving gone"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.mu.Unlock()

	mu.Lock()
	role = "die" // a new version that does not work
	mu.Unlock()
	if err := r.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "node 1 is not replaced") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want that node 1 is not replaced, since it died", err)
	}
	if got := r.until(2); !slices.Equal(got, after) {
		t.Errorf("got %q, want those of before: %q", got, after)
	}
}

func TestHopeless(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]string{"die": "no node has ever served", "missing": "cannot start the program"} {
		r := supervise(t, Options{Nodes: 2}, func(Place) string { return what })
		if what == "missing" {
			r.Hurry()
			r.cancel()
			<-r.result
			s := New(Options{Nodes: 1, Command: func(Place) *exec.Cmd { return exec.Command("/nowhere/at/all") }, Logger: slog.New(slog.DiscardHandler)})
			r.result <- s.Run(t.Context())
		}
		err := <-r.result
		r.result <- nil
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want … %q …", what, err, want)
		}
	}
}

func TestOtherPort(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is not known where others listen")
	}
	r := supervise(t, Options{Nodes: 1, ReadyTimeout: 500 * time.Millisecond}, func(Place) string { return "other port" })
	for range 3000 {
		if strings.Contains(r.logged(), "environment variable PORT") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.mu.Lock()
	_, port, _ := strings.Cut(strings.TrimSpace(r.out.String()), " ")
	port, _, _ = strings.Cut(port, "\n")
	r.mu.Unlock()
	if got := r.logged(); !strings.Contains(got, "it listens on ["+port+"] instead") {
		t.Errorf("got %q, want that it listens on %s", got, port)
	}
}

func TestStubborn(t *testing.T) {
	t.Parallel()
	unixOnly(t)
	r := supervise(t, Options{Nodes: 2, Grace: 100 * time.Millisecond}, func(p Place) string {
		return [...]string{"serve", "stubborn"}[p.Node-1]
	})
	r.until(2)
	r.cancel()
	err := <-r.result
	r.result <- nil
	if err == nil || !strings.Contains(err.Error(), "nodes [2] did not end") {
		t.Errorf("got %v, want that node 2 was killed", err)
	}
}

func TestOutput(t *testing.T) {
	var b bytes.Buffer
	o := &output{w: &b}
	l := o.lines(prefixOf(7, false))
	long := strings.Repeat("x", longLine)
	for _, s := range []string{"a", "b\n\nc", "d\n", long, "e\n", "f"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("got %d, %v, want %d, nil", n, err, len(s))
		}
	}
	l.flush()
	if want := "[7] ab\n[7] \n[7] cd\n[7] " + long + "\n[7] e\n[7] f\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if got := prefixOf(2, true); got != "\x1b[33m[2]\x1b[0m " {
		t.Errorf("got %q, want it in yellow", got)
	}
}
