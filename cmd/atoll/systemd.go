package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// What systemd tells the programs that it starts, and wants to be told.
//
// See https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html and sd_notify.html

// firstInherited is the descriptor of the first socket.
const firstInherited = 3

// inherited returns the socket that systemd has opened for the program, nil where there is none.
func inherited() (net.Listener, error) {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} { // not for our children
		_ = os.Unsetenv(name)
	}
	switch {
	case err != nil || n < 1:
		return nil, nil
	case n > 1:
		return nil, fmt.Errorf("the unit's socket has %d addresses, and this program takes one: leave one ListenStream in it", n)
	}
	f := os.NewFile(firstInherited, "socket of systemd")
	if f == nil {
		return nil, errors.New("the socket that systemd announces is not there")
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use the socket of systemd: %w", err)
	}
	return l, nil
}

// tellSystemd says how the program is, for units of Type=notify: READY=1, STOPPING=1. Nobody listens where there is no systemd.
func tellSystemd(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state)) // nothing can be done about it
}
