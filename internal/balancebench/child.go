package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/atollhq/atoll/sticky"
)

// child is what this program does when it was started by itself.
func child(role string) {
	ln, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println(ln.Addr())
	if role == "node" {
		go serveNode(ln)
		<-ended
		return
	}
	b, err := sticky.New(&sticky.Options{
		Backends: []sticky.Backend{{URL: os.Getenv("BALANCEBENCH_ARG")}}, Health: sticky.Health{Path: "-"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	if dir := os.Getenv("BALANCEBENCH_PROFILE"); dir != "" {
		if f, err := os.Create(filepath.Join(dir, "cpu.pprof")); err == nil {
			pprof.StartCPUProfile(f)
			defer pprof.StopCPUProfile()
		}
	}
	go b.Serve(ln)
	<-ended
	b.Close()
}

const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nCache-Control: no-store\r\nAtoll-Node: 0a1b2c3d\r\n" +
	"Access-Control-Allow-Origin: https://example.org\r\nDate: Tue, 24 Nov 2026 11:00:00 GMT\r\nContent-Length: 20\r\n\r\n" + `42["message","hello"`

// serveNode answers each request at once, and gives back what comes over WebSockets.
func serveNode(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go serveClient(c)
	}
}

func serveClient(c net.Conn) {
	defer c.Close()
	br := bufio.NewReaderSize(c, 2<<10)
	for {
		length, socket := 0, false
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
			name, value, _ := strings.Cut(string(line), ":")
			switch strings.ToLower(name) {
			case "content-length":
				fmt.Sscan(value, &length)
			case "upgrade":
				socket = true
			}
		}
		if socket {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			small := make([]byte, 64)
			for {
				n, err := br.Read(small)
				if err != nil {
					return
				}
				c.Write(small[:n])
			}
		}
		if _, err := br.Discard(length); err != nil {
			return
		}
		io.WriteString(c, answer)
	}
}
