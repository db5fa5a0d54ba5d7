package demo

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

const triedPorts = 50

// Listen listens on the given port of host, or, where that is taken, on the next free
// one of the 50 behind it. taken says that it was. Port 0 takes any.
func Listen(host string, port int) (l net.Listener, taken bool, err error) {
	if port < 0 || port > 65535 {
		return nil, false, fmt.Errorf("there is no port %d: choose one from 1 to 65535", port)
	}
	last := min(port+triedPorts, 65535)
	for p := port; p <= last; p++ {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		switch {
		case err == nil:
			return l, p != port, nil
		case errors.Is(err, syscall.EACCES):
			return nil, false, fmt.Errorf("port %d needs rights that you do not have: choose one above 1023 with --port (%w)", p, err)
		case !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.Errno(10048)): // 10048 is WSAEADDRINUSE of Windows
			return nil, false, fmt.Errorf("cannot listen on %s: %w", net.JoinHostPort(host, strconv.Itoa(p)), err)
		}
	}
	return nil, true, fmt.Errorf("ports %d to %d are all taken: choose another with --port", port, last)
}
