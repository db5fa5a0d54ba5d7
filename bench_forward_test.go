package atoll_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// BenchmarkPolling is an echo over polling, a POST and a GET over one connection, by way of the node that has the session, and
// of another: what all of them and the client do together.
func BenchmarkPolling(b *testing.B) {
	for i, name := range []string{"direct", "forwarded"} {
		b.Run(name, func(b *testing.B) {
			f := newFleet(b, &fleetOptions{nodes: 2, setup: echoes})
			owner := f.nodes[0].http.Listener.Addr().String()
			d := &door{TB: b, addr: owner, owner: owner, n: f.nodes[0].Server}
			query := d.enter()
			addr := f.nodes[i].http.Listener.Addr().String()
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			target := " /socket.io/?" + query + " HTTP/1.1\r\nHost: example.test\r\n"
			body := `42["say",1]`
			post := fmt.Sprintf("POST%sContent-Length: %d\r\n\r\n%s", target, len(body), body)
			get := "GET" + target + "\r\n"
			round := func(request string) {
				if _, err := io.WriteString(conn, request); err != nil {
					b.Fatal(err)
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil || res.StatusCode != http.StatusOK {
					b.Fatalf("got %v and error %v, want 200", res, err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					b.Fatal(err)
				}
			}
			round(post) // by now there is a link
			round(get)
			b.ReportAllocs()
			for b.Loop() {
				round(post)
				round(get)
			}
		})
	}
}
