package supervise

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	prSetChildSubreaper = 36
	pAll                = 0
	wExited             = 0x4
	wNoWait             = 0x01000000
	reapPause           = 10 * time.Millisecond
)

// reap makes this process the parent of those whose parents have ended, and takes care of them, until stop is called.
func (s *Supervisor) reap() (stop func()) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0) // the first process of a container is it anyway
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-signals:
			case <-done:
				return
			}
			for s.reapOne() {
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
		for s.reapOne() {
		}
	}
}

// reapOne looks for a child that has ended. One of our own is left to who waits for it. It reports whether there may be more.
func (s *Supervisor) reapOne() bool {
	var info [128]byte // a siginfo_t
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)), wExited|syscall.WNOHANG|wNoWait, 0, 0)
	if errno == syscall.EINTR {
		return true
	}
	// Behind si_signo, si_errno and si_code, where a pointer would be aligned.
	pid := int(*(*int32)(unsafe.Pointer(&info[max(12, 2*unsafe.Sizeof(uintptr(0)))])))
	if errno != 0 || pid == 0 {
		return false
	}
	s.mu.Lock()
	ours := false
	for p := range s.all {
		ours = ours || p.pid() == pid
	}
	s.mu.Unlock()
	if ours {
		time.Sleep(reapPause)
		return true
	}
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return true
}

// listens returns the ports that a process, or one of its group, listens on.
func listens(group int) (ports []int) {
	inodes := make(map[string]bool)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		_, rest, ok := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if err != nil || !ok || len(f) < 3 || f[2] != strconv.Itoa(group) {
			continue
		}
		fds, _ := filepath.Glob(filepath.Join(filepath.Dir(stat), "fd", "*"))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
				inodes[strings.Trim(to[len("socket:"):], "[]")] = true
			}
		}
	}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			const listening = "0A"
			if len(f) < 10 || f[3] != listening || !inodes[f[9]] {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			var port int
			if _, err := fmt.Sscanf(hex, "%X", &port); err == nil {
				ports = append(ports, port)
			}
		}
		f.Close()
	}
	return ports
}
