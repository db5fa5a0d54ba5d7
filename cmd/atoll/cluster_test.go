//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/redistest"
)

var servesLine = regexp.MustCompile(`(?:Serving|Balancing) (http://\S+)`)

// startServer starts serve or balance and returns its URL. It is told to end with the test, and must.
func startServer(t *testing.T, args ...string) string {
	t.Helper()
	cmd := program(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, r)
		done <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("atoll %s: got %v, want a clean end\n%s", strings.Join(args, " "), err, errs.String())
			}
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-done
			t.Errorf("atoll %s does not end within 15 s\n%s", strings.Join(args, " "), errs.String())
		}
	})
	select {
	case line := <-first:
		m := servesLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("atoll %s: got %q, want where it serves\n%s", strings.Join(args, " "), line, errs.String())
		}
		return m[1]
	case <-time.After(30 * time.Second):
		t.Fatalf("atoll %s does not serve within 30 s", strings.Join(args, " "))
	}
	return ""
}

// A poller is a client by long-polling, one request at a time.
type poller struct {
	t   *testing.T
	url string
	all string // what has come
}

var sidField = regexp.MustCompile(`"sid":"([^"]+)"`)

func connect(t *testing.T, base, nsp string) *poller {
	t.Helper()
	p := &poller{t: t, url: base + "/socket.io/?EIO=4&transport=polling"}
	m := sidField.FindStringSubmatch(p.get())
	if m == nil {
		t.Fatalf("no handshake: got %q", p.all)
	}
	p.url += "&sid=" + m[1]
	connectPacket := "40"
	if nsp != "/" {
		connectPacket += nsp + ","
	}
	p.post(connectPacket)
	p.until(connectPacket + `{"sid":`)
	return p
}

func (p *poller) get() string {
	p.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		p.t.Fatalf("got status %d, %v, %s", res.StatusCode, err, body)
	}
	p.all += string(body) + "\x1e"
	return string(body)
}

func (p *poller) post(packet string) {
	p.t.Helper()
	res, err := http.Post(p.url, "text/plain", strings.NewReader(packet))
	if err != nil {
		p.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		p.t.Fatalf("post of %s: got status %d", packet, res.StatusCode)
	}
}

// until polls until want has come.
func (p *poller) until(want string) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.all, want); p.get() {
		if time.Now().After(deadline) {
			p.t.Fatalf("got %q, want %q in it", p.all, want)
		}
	}
}

func emit(t *testing.T, args ...string) string {
	t.Helper()
	cmd := program(append([]string{"emit"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("atoll emit %q: %v: %s", args, err, errs.String())
	}
	return string(out)
}

func TestServeBalanceEmit(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, medium := range []string{"embedded", "redis"} {
		t.Run(medium, func(t *testing.T) {
			where := []string{"--cluster", fmt.Sprintf("test-%d", time.Now().UnixNano())}
			if medium == "redis" {
				where = []string{"--redis", "redis://" + redistest.Start(t).Addr()}
			}
			serve := append([]string{"serve", "--port", "0", "--rooms", "--relay"}, where...)
			a, b := startServer(t, serve...), startServer(t, serve...)
			front := startServer(t, "balance", "--port", "0", "--policy", "round-robin", "--status", "/status", "--backend", a+","+b)

			ada, ben := connect(t, front, "/"), connect(t, front, "/")
			carl := connect(t, front, "/other")
			ada.post(`42["join","lobby"]`)
			ada.post(`420["leave","nowhere"]`)
			ada.until("430[")

			if got, want := emit(t, append(where, "news", `{"a":1}`, `"ü"`)...), `Published "news" with 2 arguments`; !strings.HasPrefix(got, want) {
				t.Errorf("got %q, want %s …", got, want)
			}
			ada.until(`42["news",{"a":1},"ü"]`)
			ben.until(`42["news",{"a":1},"ü"]`)
			emit(t, append(where, "--room", "lobby", "in")...)
			emit(t, append(where, "--except", "lobby", "out")...)
			emit(t, append(where, "--nsp", "other", "there")...)
			ada.until(`42["in"]`)
			ben.until(`42["out"]`)
			carl.until(`42/other,["there"]`)
			ben.post(`42["hello",[1,2]]`) // to the others
			ada.until(`42["hello",[1,2]]`)
			if strings.Contains(ada.all, `"out"`) || strings.Contains(ben.all, `"in"`) || strings.Contains(ben.all, "hello") || strings.Contains(carl.all, "news") {
				t.Errorf("somebody got what was not for them:\n%q\n%q\n%q", ada.all, ben.all, carl.all)
			}
			for _, path := range []string{"/status", "/health", "/socket.io/socket.io.js"} {
				res, err := http.Get(front + path)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("GET %s: got status %d, want 200", path, res.StatusCode)
				}
			}
			for _, p := range []*poller{ada, ben, carl} {
				p.post("1") // goodbye, so that the nodes need not wait
			}
		})
	}
}

func TestBalanceHealth(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/socket.io/"):
			fmt.Fprint(w, `0{"sid":"x"}`)
		case r.URL.Path != "/alive":
			<-r.Context().Done() // as a Node.js server that has only Socket.IO
		}
	}))
	t.Cleanup(bare.Close)
	for _, c := range []struct {
		health string
		want   int
	}{{"-", 200}, {"/alive", 200}, {"/health", 503}} {
		t.Run(c.health, func(t *testing.T) {
			front := startServer(t, "balance", "--port", "0", "--backend", bare.URL, "--health", c.health)
			res, err := http.Get(front + "/socket.io/?EIO=4&transport=polling")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.want {
				t.Errorf("got status %d, want %d", res.StatusCode, c.want)
			}
			// Goodbye, so that the balancer need not wait for the session when it ends.
			if res, err = http.Post(front+"/socket.io/?EIO=4&transport=polling&sid=x", "text/plain", strings.NewReader("1")); err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		})
	}
}
