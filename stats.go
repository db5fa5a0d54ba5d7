package atoll

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
)

type counters struct {
	sockets, events, unhandled, malformed, panics, refused atomic.Int64
}

// Stats are counters of a server since its start, and gauges of the moment.
type Stats struct {
	Engine    engine.Stats
	Sockets   int64 // now, those on their way in included
	Events    int64 // that came from clients and were handled
	Unhandled int64 // of them, those that nobody handles
	Malformed int64 // packets that cost their sender the connection
	Panics    int64 // in handlers
	Refused   int64 // connections to namespaces

	Drain    DrainStats
	Forward  ForwardStats // of Options.Forward; zero where nothing is forwarded
	Recovery RecoveryStats
	Cluster  cluster.Stats // of Options.Cluster; zero without one. Lost and Gaps say what did not arrive
}

// RecoveryStats are counters of Options.Recovery.
type RecoveryStats struct {
	Recovered int64 // sockets that were recovered
	Replayed  int64 // events that were sent to them because they had missed them
	Refused   int64 // clients that asked to be recovered and were connected anew
	Trimmed   int64 // of them, those that had missed more than the log still kept, or than can be sent at once
}

// Stats returns the counters.
func (srv *Server) Stats() Stats {
	stats := Stats{
		Engine:    srv.eng.Stats(),
		Sockets:   srv.stats.sockets.Load(),
		Events:    srv.stats.events.Load(),
		Unhandled: srv.stats.unhandled.Load(),
		Malformed: srv.stats.malformed.Load(),
		Panics:    srv.stats.panics.Load(),
		Refused:   srv.stats.refused.Load(),
	}
	stats.Drain, _ = srv.drain.stats(srv.eng)
	if r := srv.recovery; r != nil {
		stats.Recovery = RecoveryStats{
			Recovered: r.recovered.Load(),
			Replayed:  r.replayed.Load(),
			Refused:   r.refused.Load(),
			Trimmed:   r.trimmed.Load(),
		}
	}
	if f := srv.forward; f != nil {
		stats.Forward = f.stats()
	}
	if node := srv.opts.Cluster; node != nil {
		stats.Cluster = node.Stats()
	}
	return stats
}

// Health returns a handler for balancers: 200 while the server takes new sessions, 503
// from the moment on when it is drained or shuts down; the body is JSON, and says how far that is (status: ok,
// announced, draining, drained or shutting down; left: sessions). The header Atoll-Node names the node. GET
// and HEAD, also HTTP/1.0 without a Host.
func (srv *Server) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		drain, down := srv.drain.stats(srv.eng)
		status, code := "ok", http.StatusOK
		switch {
		case down:
			status, code = "shutting down", http.StatusServiceUnavailable
		case drain.State != Serving:
			status, code = string(drain.State), http.StatusServiceUnavailable
		}
		body, _ := json.Marshal(struct {
			Status  string `json:"status"`
			Node    string `json:"node"`
			Tag     string `json:"tag"`
			Sockets int64  `json:"sockets"`
			Left    int    `json:"left,omitempty"`
		}{status, srv.node, srv.tag.String(), srv.stats.sockets.Load(), drain.Left})
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h[NodeHeader] = []string{srv.tag.String()}
		w.WriteHeader(code)
		_, _ = w.Write(append(body, '\n')) // whoever asked has left
	})
}

// Node returns the id of this node: its cluster's, or a random one.
func (srv *Server) Node() string { return srv.node }

func newNodeID() string { return rand.Text() }
