package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A proxy is a process that is measured.
type proxy struct {
	name string
	addr string
	pids []int // whose time and memory count
	stop func()

	again func() (*proxy, error) // starts another like it
}

type process struct {
	cmd  *exec.Cmd
	addr string
	in   io.Closer
}

// startChild starts this program in another role. Its first line of output is its address; it ends with its input.
func startChild(role, arg string, env ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(append(os.Environ(), "BALANCEBENCH_ROLE="+role, "BALANCEBENCH_ARG="+arg), env...)
	p.cmd.Stderr = os.Stderr
	p.in, _ = p.cmd.StdinPipe()
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not start: %w", role, err)
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

func (p *process) stop() {
	p.in.Close()
	p.cmd.Wait()
}

func startOurs(node, profile string) (*proxy, error) {
	p, err := startChild("balancer", node, "GOMAXPROCS=1", "BALANCEBENCH_PROFILE="+profile)
	if err != nil {
		return nil, err
	}
	return &proxy{name: "atoll", addr: p.addr, pids: []int{p.cmd.Process.Pid}, stop: p.stop}, nil
}

func startNginx(node, _ string) (*proxy, error) {
	return startOther("nginx", []string{"-e", "W/error.log", "-c", "W/config"}, `daemon off; worker_processes 1; pid W/pid; error_log W/error.log crit;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; tcp_nodelay on;
  client_body_temp_path W/a; proxy_temp_path W/b; fastcgi_temp_path W/c; uwsgi_temp_path W/d; scgi_temp_path W/e;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream nodes { server NODE max_fails=0; keepalive 256; keepalive_requests 100000000; }
  server { listen FRONT backlog=1024; location / {
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_pass http://nodes; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 600s;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; } }
}
`, node)
}

func startHAProxy(node, _ string) (*proxy, error) {
	return startOther("haproxy", []string{"-db", "-q", "-f", "W/config"}, `global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 1h
  option http-keep-alive
  http-reuse always
listen chat
  bind FRONT backlog 1024
  option forwardfor
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Proto http
  server node NODE
`, node)
}

// startOther starts a program that is installed, with W, NODE and FRONT replaced.
func startOther(name string, args []string, config, node string) (*proxy, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; exec.Command("test", "-x", path).Run() != nil {
			return nil, fmt.Errorf("%s is not installed", name)
		}
	}
	dir, err := os.MkdirTemp("", "balancebench")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	front := ln.Addr().String()
	ln.Close()
	r := strings.NewReplacer("W/", dir+"/", "NODE", node, "FRONT", front)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(r.Replace(config)), 0o600); err != nil {
		return nil, err
	}
	for i := range args {
		args[i] = r.Replace(args[i])
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proxy{name: name, addr: front, stop: func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		os.RemoveAll(dir)
	}}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", front)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			p.stop()
			return nil, fmt.Errorf("%s does not listen: %w", name, err)
		}
	}
	// nginx works in a child, which begins a moment later.
	for end := time.Now().Add(10 * time.Second); name == "nginx" && len(childrenOf(cmd.Process.Pid)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.stop()
			return nil, fmt.Errorf("%s has no worker", name)
		}
	}
	p.pids = append(childrenOf(cmd.Process.Pid), cmd.Process.Pid)
	return p, nil
}

func childrenOf(pid int) (pids []int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// cpu returns how long the processes of p have run.
func (p *proxy) cpu() (d time.Duration, err error) {
	for _, pid := range p.pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, f := range files {
			var ns int64
			b, err := os.ReadFile(f)
			if err != nil {
				continue // the thread has ended
			}
			fmt.Sscan(string(b), &ns)
			d += time.Duration(ns)
		}
	}
	if d == 0 {
		return 0, errors.New("the system does not tell the time of processes")
	}
	return d, nil
}

// memory returns the memory of the processes of p, with their share of what is shared.
func (p *proxy) memory() (bytes int64, err error) {
	for _, pid := range p.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				var kb int64
				fmt.Sscan(rest, &kb)
				bytes += kb << 10
			}
		}
	}
	return bytes, nil
}
