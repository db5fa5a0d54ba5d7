//go:build unix

package doctor

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/atollhq/atoll/internal/doctor"
)

// byConnection is a balancer that looks at the first request of a connection only, as those do that
// pass TCP on: a session id is sent where its first connection went by what the node said.
func byConnection(t *testing.T, nodes, _ []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		next  int
		owner = make(map[string]string)
	)
	serve := func(front net.Conn) {
		defer front.Close()
		in := bufio.NewReader(front)
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		_, id, known := strings.Cut(strings.Fields(line)[1], "sid=")
		mu.Lock()
		node := owner[id]
		if node == "" {
			node = nodes[next%len(nodes)]
			next++
		}
		mu.Unlock()
		back, err := net.Dial("tcp", node)
		if err != nil {
			return
		}
		defer back.Close()
		group.Go(func() {
			_, _ = io.WriteString(back, line)
			_, _ = io.Copy(back, in)
			_ = back.(*net.TCPConn).CloseWrite()
		})
		b := make([]byte, 32<<10)
		for {
			n, err := back.Read(b)
			if _, after, ok := strings.Cut(string(b[:n]), `"sid":"`); ok && !known {
				id, _, _ := strings.Cut(after, `"`)
				mu.Lock()
				owner[id] = node
				mu.Unlock()
			}
			if n > 0 {
				if _, err := front.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	return "http://" + l.Addr().String()
}

func contains(all []string, s string) bool { return slices.Contains(all, s) }

func ids(r *doctor.Report) (all []string) {
	for _, f := range r.Findings {
		all = append(all, f.ID)
	}
	return all
}

func fact(r *doctor.Report, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}
