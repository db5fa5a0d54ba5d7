package atoll_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
)

func TestServe(t *testing.T) {
	srv := quietly(&atoll.DrainOptions{Lead: -1, Window: 20 * time.Second})
	begun, end := make(chan struct{}), make(chan struct{}) // the client is not asked to go while its handler runs
	atoll.On(srv.Of("/"), "work", func(context.Context, *atoll.Socket, int) error {
		close(begun)
		<-end
		return nil
	})
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
	if err := sock.Emit(t.Context(), "work", 1); err != nil {
		t.Fatal(err)
	}
	<-begun
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
	close(end)
	if got := <-gone; got != client.ReasonTransportClose {
		t.Errorf("the client got %q, want %q", got, client.ReasonTransportClose)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := hc.Get(url + "/health"); err == nil {
		t.Error("got an answer after the end, want none")
	}

	other := quietly(nil)
	if err := other.Serve(t.Context(), &http.Server{Addr: "127.0.0.1:-1"}, nil); err == nil || !strings.Contains(err.Error(), "atoll: serve: ") {
		t.Errorf("got %v, want why it cannot listen", err)
	}
	w := httptest.NewRecorder()
	other.ServeHTTP(w, httptest.NewRequest("GET", "/socket.io/?EIO=4&transport=polling", nil))
	if w.Code != 503 {
		t.Errorf("a handshake after that: got %d, want 503: the server is shut down", w.Code)
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
