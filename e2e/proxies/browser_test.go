//go:build unix

package proxies

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A browser is a headless Chromium, one for all set-ups; see browser/tabs.mjs. Its methods may be called at once.
type browser struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	pages pages

	mu    sync.Mutex
	last  int
	wait  map[int]chan seen
	ended bool
}

// pages are the addresses of a page with the official client. Behind all are the same two servers: near is of the same site
// as the set-ups, at another port, other is of another site, stranger is of an origin that no node allows.
type pages struct{ near, other, stranger string }

// origins are those that nodes allow.
func (p pages) origins() string { return p.near + "," + p.other }

// seen is what a browser says.
type seen struct {
	ID     int
	Error  string
	Visits []visit
	Kept   []kept
}

// A visit is how a client of a page fared.
type visit struct {
	Mode, Transport, Error string
	Connected              bool // and had its echoes back
	MS                     int
}

// kept is a client that stays on a page: when it last lost its connection, was first refused another, and was last connected
// and served, in Unix milliseconds.
type kept struct {
	Mode, Error         string
	OK                  bool // it has met what was waited for
	Lost, Refused, Back int64
}

// transports are those of each mode, for browsers.
var transports = []object{
	{"mode": "polling", "transports": []string{"polling"}},
	{"mode": "upgrade", "transports": []string{"polling", "websocket"}},
	{"mode": "websocket", "transports": []string{"websocket"}},
}

// startBrowser starts Chromium, without waiting for it. It returns nil where there is none.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "chromium"
	}
	chromium, err := exec.LookPath(chromium)
	if err != nil {
		t.Log("chromium is not installed: no browser is tried")
		return nil
	}
	if _, err := os.Stat("../node_modules/puppeteer-core"); err != nil {
		t.Log("puppeteer-core is not installed, run npm ci in e2e: no browser is tried")
		return nil
	}
	b := &browser{wait: make(map[int]chan seen)}
	friends, strangers := servePage(t), servePage(t)
	b.pages = pages{near: "http://127.0.0.1:" + friends, other: "http://localhost:" + friends, stranger: "http://localhost:" + strangers}
	b.cmd = exec.Command("node", "browser/tabs.mjs")
	b.cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	b.cmd.Stderr = os.Stderr
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read(out)
	}()
	t.Cleanup(func() {
		b.in.Close()                                                                                 // it ends Chromium then
		term := time.AfterFunc(10*time.Second, func() { _ = b.cmd.Process.Signal(syscall.SIGTERM) }) // and now at the latest
		kill := time.AfterFunc(15*time.Second, func() { _ = b.cmd.Process.Kill() })
		<-done
		_ = b.cmd.Wait()
		term.Stop()
		kill.Stop()
	})
	return b
}

// servePage serves a page with the official client on all of 127.0.0.1, and returns its port.
func servePage(t testing.TB) (port string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>page</title><link rel="icon" href="data:,"><script src="/client.js"></script>`)
	})
	mux.HandleFunc("/client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "../node_modules/socket.io/client-dist/socket.io.min.js")
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	return web.URL[strings.LastIndexByte(web.URL, ':')+1:]
}

// read hands answers to who waits for them, until there are no more.
func (b *browser) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s seen
		if json.Unmarshal(lines.Bytes(), &s) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.wait[s.ID]; c != nil {
			c <- s
			delete(b.wait, s.ID)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for _, c := range b.wait {
		close(c)
	}
}

// do has the browser do something, and waits for it.
func (b *browser) do(t testing.TB, do string, o object) seen {
	t.Helper()
	answer := make(chan seen, 1)
	b.mu.Lock()
	b.last++
	o["do"], o["id"] = do, b.last
	if b.ended {
		close(answer)
	} else {
		b.wait[b.last] = answer
	}
	b.mu.Unlock()
	line, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: the browser has ended: %v", do, err)
	}
	select {
	case s, ok := <-answer:
		if !ok || s.Error != "" {
			t.Fatalf("%s: the browser has ended, or says %s", do, s.Error)
		}
		return s
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s: the browser has not answered after 2 minutes", do)
		return seen{}
	}
}
