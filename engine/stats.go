package engine

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are counters of a server. Totals count from its start.
type Stats struct {
	Sessions  int // open now
	Polling   int // of these, over long-polling
	WebSocket int // of these, over WebSocket

	Opened   uint64            // sessions that began
	Closed   map[string]uint64 // sessions that ended, by reason
	Upgrades uint64            // sessions that changed from polling to WebSocket
	MovedIn  uint64            // sessions that came from another server; see [Server.Adopt]. They are not in Opened
	MovedOut uint64            // sessions that went to another server; see [Server.Release]. They are not in Closed
	Handoffs uint64            // readers relieved of a slow handler

	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64 // frames of WebSockets and bodies of polling; no HTTP headers

	Refused         [6]uint64 // requests answered with an error, by its code; see [ErrorCode]
	RefusedOrigin   uint64    // of these, because of their origin
	DroppedVolatile uint64    // volatile packets not sent
	SlowClients     uint64    // sessions cut off because of MaxQueue
}

type counters struct {
	opened, upgrades, handoffs atomic.Uint64
	movedIn, movedOut          atomic.Uint64
	packetsIn, bytesIn         atomic.Uint64
	_                          [40]byte // readers and writers each have a cache line
	packetsOut, bytesOut       atomic.Uint64
	dropped, slow              atomic.Uint64
	websockets, kept           atomic.Int64 // kept: bytes of long answers that may be wanted again
	refused                    [6]atomic.Uint64
	refusedOrigin              atomic.Uint64

	closedMu sync.Mutex
	closed   map[string]uint64
}

func (k *counters) init() { k.closed = make(map[string]uint64) }

// count counts the end of a session.
func (k *counters) count(e *CloseError) {
	k.closedMu.Lock()
	defer k.closedMu.Unlock()
	k.closed[e.Reason]++
}

// Stats returns the counters of the server. They are read one after the other, so sums may
// be off by what happens meanwhile.
func (s *Server) Stats() Stats {
	s.mu.RLock()
	n := len(s.conns)
	s.mu.RUnlock()
	ws := min(int(s.websockets.Load()), n)
	st := Stats{
		Sessions: n, Polling: n - ws, WebSocket: ws,
		Opened: s.opened.Load(), Upgrades: s.upgrades.Load(), Handoffs: s.handoffs.Load(),
		MovedIn: s.movedIn.Load(), MovedOut: s.movedOut.Load(),
		PacketsIn: s.packetsIn.Load(), BytesIn: s.bytesIn.Load(),
		PacketsOut: s.packetsOut.Load(), BytesOut: s.bytesOut.Load(),
		DroppedVolatile: s.dropped.Load(), SlowClients: s.slow.Load(),
		RefusedOrigin: s.refusedOrigin.Load(),
	}
	for i := range st.Refused {
		st.Refused[i] = s.refused[i].Load()
	}
	s.closedMu.Lock()
	defer s.closedMu.Unlock()
	st.Closed = maps.Clone(s.closed)
	return st
}
