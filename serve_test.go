package atoll_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
)

func TestServe(t *testing.T) {
	srv := quietly(&atoll.DrainOptions{Lead: 300 * time.Millisecond, Window: 20 * time.Second})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	mux.Handle("/health", srv.Health())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, &http.Server{Handler: mux}, l) }()
	sock, err := client.Dial(t.Context(), url, &client.Options{DisableReconnect: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	gone := make(chan string, 1)
	sock.OnDisconnect(func(cause *client.DisconnectError) { gone <- cause.Reason })
	stop()
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for status := 0; status != 503; {
		res, err := hc.Get(url + "/health")
		if err != nil {
			t.Fatalf("health: %v; want 503 while clients are asked to go", err)
		}
		res.Body.Close()
		status = res.StatusCode
	}
	if got := <-gone; got != client.ReasonTransportClose {
		t.Errorf("the client got %q, want %q", got, client.ReasonTransportClose)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := hc.Get(url + "/health"); err == nil {
		t.Error("got an answer after the end, want none")
	}

	if err := quietly(nil).Serve(t.Context(), &http.Server{Addr: "127.0.0.1:-1"}, nil); err == nil || !strings.Contains(err.Error(), "atoll: serve: ") {
		t.Errorf("got %v, want why it cannot listen", err)
	}
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { l.Close() })
	if err := quietly(nil).Serve(t.Context(), &http.Server{}, l); err == nil {
		t.Error("a listener that fails: got nil, want its error")
	}
}
