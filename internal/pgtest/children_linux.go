package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithUs has the kernel end the server if the test is killed.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// children returns the ids of the processes that a process has started. They are not in its
// group: each PostgreSQL process makes one of its own.
func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, name := range stats {
		if pid, of, _ := stat(name); of == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive reports whether a process runs; one that has ended and nobody waited for does not.
func alive(pid int) bool {
	_, _, state := stat("/proc/" + strconv.Itoa(pid) + "/stat")
	return state != 0 && state != 'Z'
}

// stat reads "pid (name) state parent ..."; the name may be anything.
func stat(name string) (pid, parent int, state byte) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, 0
	}
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, 0
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 2 {
		return 0, 0, 0
	}
	pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
	parent, _ = strconv.Atoi(string(fields[1]))
	return pid, parent, fields[0][0]
}
