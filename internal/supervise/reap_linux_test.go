package supervise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reapOrphan supervises a shell that leaves children behind, as the first process of a container would, and prints how many
// of those are left unburied.
func reapOrphan() {
	file := os.Getenv("ATOLL_TEST_FILE")
	ctx, cancel := context.WithCancel(context.Background())
	s := New(Options{Nodes: 1, Health: "-", ReadyTimeout: time.Minute, Reap: true, Command: func(Place) *exec.Cmd {
		// The inner shells end at once; what they have started is ours then, and ends when the file is gone.
		return exec.Command("sh", "-c", `for i in 1 2 3; do (setsid sh -c 'while [ -e "$0" ]; do sleep 0.05; done' "$0" &) ; done; exec sleep 600`, file)
	}})
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	was, most := -1, 0
	for range 3000 {
		n, zombies := children()
		if most = max(most, n); n == 4 {
			os.Remove(file)
		}
		if most == 4 && n == 1 && zombies == 0 {
			was = 0
			break
		}
		was = zombies
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	err := <-result
	n, _ := children()
	fmt.Printf("most %d zombies %d left %d err %v\n", most, was, n, err)
}

// children counts the children of this process, and those among them that are dead.
func children() (n, zombies int) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		_, rest, ok := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if err != nil || !ok || len(f) < 2 || f[1] != fmt.Sprint(os.Getpid()) {
			continue
		}
		n++
		if f[0] == "Z" {
			zombies++
		}
	}
	return n, zombies
}

func TestReap(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "wait")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=reap", "ATOLL_TEST_FILE="+file)
	out, err := cmd.CombinedOutput()
	if want := "most 4 zombies 0 left 0 err <nil>\n"; err != nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}
