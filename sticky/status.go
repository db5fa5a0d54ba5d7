package sticky

import (
	"encoding/json"
	"net/http"
	"time"
)

// A Status is what a [Balancer] looks like at a moment. It can be written as JSON.
type Status struct {
	Policy   string          `json:"policy"`
	Since    time.Time       `json:"since"`    // when the balancer started
	Sessions int64           `json:"sessions"` // live, on all nodes
	Backends []BackendStatus `json:"backends"` // in the order given to SetBackends

	Remembered  int    `json:"remembered"`  // sessions in the table
	Evicted     uint64 `json:"evicted"`     // sessions that were forgotten because the table was full
	Unavailable uint64 `json:"unavailable"` // requests refused because no node was up
	Unknown     uint64 `json:"unknown"`     // requests refused because their session is on no living node
	Limited     uint64 `json:"limited"`     // requests refused because of a limit
}

// A BackendStatus is what a node looks like at a moment.
type BackendStatus struct {
	URL        string    `json:"url"`
	Name       string    `json:"name"`
	Tag        string    `json:"tag,omitempty"` // 8 hexadecimal digits, once an Atoll node has told it
	State      State     `json:"state"`
	Since      time.Time `json:"since"`      // of the state
	Sessions   int64     `json:"sessions"`   // live, as far as the balancer sees
	WebSockets int64     `json:"websockets"` // open
	Active     int64     `json:"active"`     // requests under way, WebSockets not counted
	Requests   uint64    `json:"requests"`   // that were sent to it, WebSockets included
	Errors     uint64    `json:"errors"`     // requests and WebSocket handshakes that it failed
	LastError  string    `json:"lastError,omitempty"`

	Weight      int64  `json:"weight"`                // the share of new sessions
	MaxSessions int64  `json:"maxSessions,omitempty"` // 0 where there is no limit
	Drained     bool   `json:"drained,omitempty"`     // by Drain
	Suspect     bool   `json:"suspect,omitempty"`     // gets no new sessions for a moment, because it failed requests
	Leaving     bool   `json:"leaving,omitempty"`     // is being taken away
	Retries     uint64 `json:"retries"`               // requests that were sent to another node after it had failed them
}

// Status returns a snapshot. Its figures are read one after the other, not at one instant.
func (l *Balancer) Status() Status {
	s := Status{
		Policy: l.rules().Policy.String(), Since: l.start,
		Unavailable: l.refused[noNode].Load(), Unknown: l.refused[unknownID].Load(),
	}
	s.Limited = l.refused[tooManySessions].Load() + l.refused[tooFast].Load() + l.refused[tooFastAddress].Load()
	s.Remembered, s.Evicted = l.table.len()
	for _, b := range l.view.Load().list {
		bs := BackendStatus{
			URL: b.url.String(), State: b.now(),
			Sessions: b.sessions.Load(), WebSockets: b.sockets.Load(), Active: b.active.Load(),
			Requests: b.requests.Load(), Errors: b.errors.Load(), Retries: b.retries.Load(),
			Weight: b.weight.Load(), MaxSessions: max(0, b.most.Load()), Suspect: b.suspected.Load() > time.Now().UnixNano(),
		}
		b.mu.Lock()
		bs.Name, bs.Since, bs.LastError = b.name, b.since, b.lastErr
		bs.Drained, bs.Leaving = b.drained, !b.leaves.IsZero()
		if b.tagged {
			bs.Tag = b.tag.String()
		}
		b.mu.Unlock()
		s.Sessions += bs.Sessions
		s.Backends = append(s.Backends, bs)
	}
	return s
}

// local reports whether a request is for a handler in this process.
func (l *Balancer) local(k kind, h *head) bool {
	return k == plain && (l.o.Fallback != nil || l.o.StatusPath != "" && h.path == l.o.StatusPath)
}

// serveStatus answers with the status.
func (l *Balancer) serveStatus(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(l.Status()) // whoever asked has left
}
