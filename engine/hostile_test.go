package engine

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// TestResetAtEachStep resets the connection, or closes it, at each step of a session's life
// (CVE-2022-41940): nothing panics and nothing is left.
func TestResetAtEachStep(t *testing.T) {
	g := newRealRig(t, &Options{UpgradeTimeout: time.Second, CloseGrace: time.Second}, echoes)
	get := func(query string) string {
		return fmt.Sprintf("GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", query)
	}
	ws := func(query string) string {
		return fmt.Sprintf("GET /?%s HTTP/1.1\r\n"+wsRequest+"\r\n", query, "x")
	}
	steps := []struct {
		name string
		send func(sid string) []string
	}{
		{"half a request", func(string) []string { return []string{"GET /?EIO=4&tra"} }},
		{"polling handshake", func(string) []string { return []string{get("EIO=4&transport=polling")} }},
		{"poll", func(sid string) []string { return []string{get(poll(sid))} }},
		{"half a POST", func(sid string) []string {
			return []string{"POST /?" + poll(sid) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4hel"}
		}},
		{"POST", func(sid string) []string {
			return []string{"POST /?" + poll(sid) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n4x"}
		}},
		{"refused WebSocket", func(string) []string { return []string{ws("EIO=4&transport=websocket&sid=nobody")} }},
		{"WebSocket", func(string) []string { return []string{ws("EIO=4&transport=websocket")} }},
		{"WebSocket and message", func(string) []string {
			return []string{ws("EIO=4&transport=websocket") + string(masked(0x81, "4x"))}
		}},
		{"half a frame", func(string) []string {
			return []string{ws("EIO=4&transport=websocket"), string(masked(0x81, "4hello")[:8])}
		}},
		{"half a large frame", func(string) []string {
			return []string{ws("EIO=4&transport=websocket"), string(masked(0x81, "4"+strings.Repeat("x", 50_000))[:30_000])}
		}},
		{"upgrade", func(sid string) []string { return []string{ws("EIO=4&transport=websocket&sid=" + sid)} }},
		{"probe", func(sid string) []string {
			return []string{ws("EIO=4&transport=websocket&sid=" + sid), string(masked(0x81, "2probe"))}
		}},
		{"upgraded", func(sid string) []string {
			return []string{ws("EIO=4&transport=websocket&sid=" + sid), string(masked(0x81, "2probe")) + string(masked(0x81, "5"))}
		}},
		{"close frame", func(string) []string {
			return []string{ws("EIO=4&transport=websocket"), string(masked(0x88, ""))}
		}},
	}
	for _, s := range steps {
		for round := range 6 {
			parts := s.send(g.openPoll())
			conn, err := g.dial()
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range parts {
				if i > 0 {
					time.Sleep(time.Millisecond)
				}
				conn.Write([]byte(p))
			}
			time.Sleep(time.Duration(round/2) * time.Millisecond)
			if round%2 == 0 {
				conn.(*net.TCPConn).SetLinger(0) // a reset rather than an orderly end
			}
			conn.Close()
		}
	}
	time.Sleep(50 * time.Millisecond)
	for _, r := range g.all() { // those that only ever polled
		r.c.Close(nil)
	}
	eventually(t, "no session is left", func() bool { return g.s.Stats().Sessions == 0 })
	for _, r := range g.all() {
		r.wait(t)
	}
}

// TestGarbage sends random bytes, and frames with random mistakes, to sessions of all kinds.
func TestGarbage(t *testing.T) {
	inMemory(t, &Options{MaxPayload: 10_000}, echoes, func(g *rig) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			var k *wsClient
			switch i % 3 {
			case 0:
				k = g.openWS()
			case 1:
				k = g.ws(g.openPoll())
			default:
				k = g.ws(g.openPoll())
				k.send("2probe")
				k.want("3probe")
				k.send("5")
			}
			b := make([]byte, r.IntN(300))
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			if i%2 == 0 { // a good frame first, and frames that begin well
				b = append(masked(0x81, "4x"), b...)
				b = append(b, masked(byte(r.Uint32()), "4hello")...)
			}
			go k.Conn.Write(b)
			go func() {
				for k.next() != "EOF" {
				}
			}()
			synctest.Wait()
			k.Close()
		}
		time.Sleep(2 * time.Minute)
		if got := g.s.Stats().Sessions; got != 0 {
			t.Errorf("got %d sessions, want none", got)
		}
	})
}

// TestFrameErrors is about what a client that breaks RFC 6455 is told; wire has the cases.
func TestFrameErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		code  int
	}{
		{"not masked", []byte("\x81\x014"), wire.CloseProtocol},
		{"reserved bit (CVE-2022-21676)", masked(0xc1, "4x"), wire.CloseProtocol},
		{"64-bit length (CVE-2020-27813)", []byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff1234"), wire.CloseProtocol},
		{"63-bit length", []byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234"), wire.CloseTooBig},
		{"not UTF-8", masked(0x81, "4\xff"), wire.CloseInvalid},
		{"forbidden close code", masked(0x88, "\x03\xed"), wire.CloseProtocol},
		{"close reason not UTF-8", masked(0x88, "\x03\xe8\xff"), wire.CloseInvalid},
		{"close payload of one byte", masked(0x88, "\x03"), wire.CloseProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, nil, nil, func(g *rig) {
				k := g.openWS()
				k.write(c.frame)
				k.want(fmt.Sprint("close:", c.code))
				if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
					t.Errorf("got %v, want transport error", got)
				}
			})
		})
	}
}

// TestControlFloods sends control frames without end: they cost no memory, no goroutine and no timer
// (CVE-2026-48802).
func TestControlFloods(t *testing.T) {
	g := newRealRig(t, nil, nil)
	for name, frame := range map[string][]byte{
		"pongs of Engine.IO": masked(0x81, "3"),
		"pings":              masked(0x89, strings.Repeat("x", 125)),
		"pongs":              masked(0x8a, ""),
		"empty fragments":    masked(0x00, ""),
	} {
		t.Run(name, func(t *testing.T) {
			k := g.openWS()
			c := g.rec(len(g.all()) - 1).c
			go func() { // read, or the server's pongs wait for us
				for k.next() != "EOF" {
				}
			}()
			if frame[0] == 0 {
				k.write(masked(0x02, ""))
			}
			before := runtime.NumGoroutine()
			many := []byte(strings.Repeat(string(frame), 1000))
			for range 50 {
				k.write(many)
			}
			if got := c.Queued(); got > 1<<20 {
				t.Errorf("got %d bytes queued, want few", got)
			}
			if got := runtime.NumGoroutine(); got > before+10 {
				t.Errorf("got %d goroutines, want about %d", got, before)
			}
			k.Close()
		})
	}
}

// TestManySmallPackets sends a body of the smallest packets there are (CVE-2020-36048).
func TestManySmallPackets(t *testing.T) {
	g := newRealRig(t, nil, nil)
	id := g.openPoll()
	start := time.Now()
	if status, _ := g.post(id, strings.Repeat("4\x1e", 499_999)+"4"); status != 200 {
		t.Errorf("got %d, want 200", status)
	}
	if got := time.Since(start); got > 5*time.Second {
		t.Errorf("took %v, want far less than a second", got)
	}
}

// TestLongHeaders sends what once was slow or fatal (CVE-2021-32640, CVE-2024-37890).
func TestLongHeaders(t *testing.T) {
	g := newRealRig(t, nil, nil)
	for name, headers := range map[string]string{
		"protocols":  "Sec-WebSocket-Protocol: " + strings.Repeat(" ", 64<<10) + "x\r\n",
		"extensions": "Sec-WebSocket-Extensions: " + strings.Repeat("a;,\"", 16<<10) + "\r\n",
		"connection": "Connection: " + strings.Repeat(",", 64<<10) + "\r\n",
		"origin":     "Origin: " + strings.Repeat("*", 64<<10) + "\r\n",
		"many":       strings.Repeat("X: y\r\n", 10_000),
	} {
		start := time.Now()
		_, res := g.tryWS("", headers)
		if res.StatusCode != 101 && res.StatusCode != 403 && res.StatusCode != 431 {
			t.Errorf("%s: got %d", name, res.StatusCode)
		}
		if got := time.Since(start); got > time.Second {
			t.Errorf("%s: took %v", name, got)
		}
	}
}

// FuzzSession sends any bytes to a session, behind the handshake of a WebSocket.
func FuzzSession(f *testing.F) {
	for _, b := range [][]byte{
		masked(0x81, "4hello"), masked(0x82, "\x00\x01"), masked(0x88, "\x03\xe8"), masked(0x89, ""),
		append(masked(0x01, "4a"), masked(0x80, "b")...), masked(0x81, "2probe"), masked(0x81, "5"), []byte("GET / HTTP/1.1"),
	} {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, upgrade bool) {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, &Options{MaxPayload: 1000}, echoes)
			sid := ""
			if upgrade {
				sid = g.openPoll()
			}
			k := g.ws(sid)
			go k.Conn.Write(b)
			go func() {
				for k.next() != "EOF" {
				}
			}()
			synctest.Wait()
			k.Close()
			g.rec(0).c.Close(nil)
			g.rec(0).wait(t)
			time.Sleep(time.Minute)
			if got := g.s.Stats().Sessions; got != 0 {
				t.Errorf("got %d sessions, want none", got)
			}
		})
	})
}

// FuzzPost sends any body to a polling session.
func FuzzPost(f *testing.F) {
	for _, b := range []string{"4hello", "4a\x1e4b", "bAAEC", "1", "2", "3", "", "\xff", "4a\x1e"} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, &Options{MaxPayload: 1000}, echoes)
			id := g.openPoll()
			status, _ := g.post(id, body)
			if status != 200 && status != 400 && status != 413 {
				t.Errorf("got status %d", status)
			}
			g.rec(0).c.Close(nil)
			g.rec(0).wait(t)
		})
	})
}
