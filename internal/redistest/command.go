//go:build unix

package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commandTimeout is how long one command may take.
const commandTimeout = 5 * time.Second

// Do sends one command over a connection of its own, and returns the answer: a string, an int64, nil, or
// a []any of these. What the server refuses is an error.
func (s *Server) Do(args ...string) (any, error) {
	c, err := s.connect()
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(commandTimeout))
	if err := writeCommand(c, args); err != nil {
		return nil, fmt.Errorf("redistest: %s: %w", args[0], err)
	}
	answer, err := readAnswer(bufio.NewReader(c))
	if err != nil {
		return nil, fmt.Errorf("redistest: %s: %w", args[0], err)
	}
	return answer, nil
}

// MustDo is Do that ends t where there is an error.
func (s *Server) MustDo(t testing.TB, args ...string) any {
	t.Helper()
	answer, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%s: %v", s.Addr(), err)
	}
	return answer
}

func (s *Server) connect() (net.Conn, error) {
	d := &net.Dialer{Timeout: time.Second}
	if s.tls != nil {
		return tls.DialWithDialer(d, "tcp", s.Addr(), s.tls)
	}
	return d.Dial("tcp", s.Addr())
}

func writeCommand(w io.Writer, args []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// readAnswer reads one answer in RESP2.
func readAnswer(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty answer")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("an answer that begins with %q", line)
	}
	switch {
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case kind == '*':
		list := make([]any, 0, n)
		for range n {
			v, err := readAnswer(r)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("an answer that begins with %q", line)
	}
}

// Connections returns how many connections Redis knows, the one for this question among them.
func (s *Server) Connections(t testing.TB) int {
	t.Helper()
	text, _ := s.MustDo(t, "CLIENT", "LIST").(string)
	return strings.Count(text, "\n")
}

// AddUser makes an ACL user that logs in with name and password and may do what the rules say, for example
// "~*", "&socket.io*", "+@all".
func (s *Server) AddUser(t testing.TB, name, password string, rules ...string) {
	t.Helper()
	s.MustDo(t, append([]string{"ACL", "SETUSER", name, "on", ">" + password}, rules...)...)
}

// wait polls until ok, which says what is missing where it is not.
func wait(t testing.TB, ok func() (missing string)) {
	t.Helper()
	var missing string
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if missing = ok(); missing == "" {
			return
		}
	}
	t.Fatalf("redistest: after %v: %s", startTimeout, missing)
}
