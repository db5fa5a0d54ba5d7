package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	id      = "lv_VI97HAXpY6yYWAAAC"
	browser = "Host: chat.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
		"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.9\r\nOrigin: https://example.org\r\nReferer: https://example.org/chat\r\nCookie: lang=en; theme=dark\r\n"
	get  = "GET /socket.io/?EIO=4&transport=polling&t=abcdefgh&sid=" + id + " HTTP/1.1\r\n" + browser + "\r\n"
	post = "POST /socket.io/?EIO=4&transport=polling&t=abcdefgh&sid=" + id + " HTTP/1.1\r\n" + browser + "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 20\r\n\r\n" +
		`42["message","hello"`
	handshake = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + browser + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

// timed runs work n times in total, shared by workers, and returns how often that was for a second of p's time.
func timed(p *proxy, workers, n int, work func(worker, times int) error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	errs := make(chan error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			if err := work(w, n/workers); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
	}
	after, err := p.cpu()
	return float64(n/workers*workers) / (after - before).Seconds(), err
}

// A conn is a client's connection.
type conn struct {
	net.Conn
	br *bufio.Reader
}

func dial(p *proxy) (*conn, error) {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return &conn{c, bufio.NewReader(c)}, nil
}

// ask sends a request and reads the answer, which must be status.
func (c *conn) ask(request, status string) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !strings.Contains(string(line), status) {
			return fmt.Errorf("got %q", line)
		}
		if len(line) > 16 && strings.EqualFold(string(line[:16]), "content-length: ") {
			fmt.Sscan(string(line[16:]), &length)
		}
		if len(line) == 2 {
			_, err := c.br.Discard(length)
			return err
		}
	}
}

// atOnce is the number of clients. Fewer leave the proxy idle in between, which costs each message more.
var atOnce = 16

func polling(p *proxy, scale float64) (float64, error) {
	conns := make([]*conn, atOnce)
	for i := range conns {
		c, err := dial(p)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
		if err := c.ask(get, "200"); err != nil { // warm
			return 0, err
		}
	}
	return timed(p, atOnce, int(16000*scale), func(w, times int) error {
		for i := range times {
			request := get
			if i%2 == 0 {
				request = post
			}
			if err := conns[w].ask(request, "200"); err != nil {
				return err
			}
		}
		return nil
	})
}

func webSocket(p *proxy, scale float64) (float64, error) {
	conns := make([]*conn, atOnce)
	for i := range conns {
		c, err := dial(p)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
		if err := c.ask(handshake, "101"); err != nil {
			return 0, err
		}
	}
	return timed(p, atOnce, int(48000*scale), func(w, times int) error {
		c, msg := conns[w], []byte("\x81\x94abcd01234567890123456789")
		for range times {
			if _, err := c.Write(msg); err != nil {
				return err
			}
			if _, err := io.ReadFull(c.br, msg); err != nil {
				return err
			}
		}
		return nil
	})
}

// connections are new ones, for a request each.
func connections(p *proxy, scale float64) (float64, error) { return connecting(p, scale, get, "200") }

// upgrades are new ones, for a WebSocket each.
func upgrades(p *proxy, scale float64) (float64, error) {
	return connecting(p, scale, handshake, "101")
}

func connecting(p *proxy, scale float64, request, status string) (float64, error) {
	return timed(p, atOnce, int(4000*scale), func(_, times int) error {
		for range times {
			c, err := dial(p)
			if err != nil {
				return err
			}
			err = c.ask(request, status)
			// Without a FIN that waits: thousands of them would use up the ports.
			c.Conn.(*net.TCPConn).SetLinger(0)
			c.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// memory measures a proxy that has not done anything else before: what that has left behind would be used again.
func memory(p *proxy, scale float64) (float64, error) {
	p, err := p.again()
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if _, err := webSocket(p, 0.01); err != nil { // warm
		return 0, err
	}
	before, err := p.memory()
	if err != nil {
		return 0, err
	}
	n := int(2000 * scale)
	for range n {
		c, err := dial(p)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if err := c.ask(handshake, "101"); err != nil {
			return 0, err
		}
	}
	time.Sleep(500 * time.Millisecond)
	after, err := p.memory()
	return float64(after-before) / float64(n), err
}
