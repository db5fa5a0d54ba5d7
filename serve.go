package atoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// serveGrace is how long sessions and requests may take to end once clients have gone.
const serveGrace = 10 * time.Second

// Serve runs the web server hs, which has srv among its handlers, until ctx ends, and then ends both in the
// right order: [Server.Drain] with Options.Drain, while everything is still served, then [Server.Shutdown] and that
// of hs, in between each other: requests for sessions of other nodes are forwarded until hs takes none any more. A nil l is a listener on hs.Addr. So the main function of a node is
//
//	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//	context.AfterFunc(ctx, stop) // a second signal ends the program at once
//	…
//	http.Handle("/socket.io/", srv)
//	http.Handle("/health", srv.Health())
//	err := srv.Serve(ctx, &http.Server{Addr: ":3000"}, nil)
//
// with the cluster's node closed after that. Who sends SIGKILL after a while has to wait for longer than
// DrainOptions.Lead, Window and ten seconds together.
//
// Serve returns nil when all has ended because ctx did, also where clients were cut off, which is logged. Any other error is that of hs; the
// server is shut down then, too.
func (srv *Server) Serve(ctx context.Context, hs *http.Server, l net.Listener) error {
	if l == nil {
		var err error
		addr := hs.Addr
		if addr == "" {
			addr = ":http"
		}
		if l, err = net.Listen("tcp", addr); err != nil {
			_ = srv.Close()
			return fmt.Errorf("atoll: serve: %w", err)
		}
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(l) }()
	var err error
	select {
	case err = <-served:
		served <- err
	case <-ctx.Done():
	}
	background := context.WithoutCancel(ctx)
	if err == nil {
		if e := srv.Drain(background, nil); e != nil {
			srv.log.Warn("not all clients went in time", "err", e)
		}
	}
	end, cancel := context.WithTimeout(background, serveGrace)
	defer cancel()
	e := srv.endSessions(end)
	srv.forward.leave() // what is left are requests for sessions of other nodes, which go on
	if hs.Shutdown(end) != nil {
		_ = hs.Close()
	}
	if f := srv.forward.shutdown(end); e == nil {
		e = f
	}
	if e != nil {
		srv.log.Warn("sessions were cut off, or handlers have not returned", "err", e)
	}
	if e := <-served; err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("atoll: serve: %w", err)
	}
	return nil
}
