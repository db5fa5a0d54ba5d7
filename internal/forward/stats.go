package forward

import "sync/atomic"

// Stats is what was counted since New, and what there is now.
type Stats struct {
	Out       uint64 // requests forwarded to other nodes
	In        uint64 // requests of other nodes served here
	Gone      uint64 // requests answered by Options.Gone, since their owner was away or went
	Cancelled uint64 // requests whose client went before they were answered
	Broken    uint64 // answers that broke off in the middle
	Busy      uint64 // requests refused because too many were under way

	StreamsOut uint64 // connections passed through to other nodes
	StreamsIn  uint64 // connections of other nodes' clients taken here

	AsksOut uint64 // questions asked
	AsksIn  uint64 // questions answered

	LinksMade    uint64 // links made to other nodes
	LinksFailed  uint64 // attempts that failed
	LinksRefused uint64 // requests for a link that were not genuine
	Breaks       uint64 // links and sessions over the carrier that broke with something under way

	CarrierOut uint64 // messages sent over the cluster's carrier
	CarrierIn  uint64 // messages that came over it
	Dropped    uint64 // of which there were too many to be taken in

	Links    int // links now, to and from other nodes
	Carriers int // sessions over the carrier now
	Waiting  int // requests and questions under way to other nodes now
	Serving  int // requests and questions of other nodes under way here now
	Passing  int // connections passed through to other nodes now
}

type counters struct {
	out, in, gone, cancelled, broken, busy atomic.Uint64
	streamsOut, streamsIn, asksOut, asksIn atomic.Uint64
	made, failed, refused, breaks          atomic.Uint64
	carrierOut, carrierIn, dropped         atomic.Uint64
	passing                                atomic.Int64
}

// Stats returns the counters.
func (p *Peers) Stats() Stats {
	c := &p.count
	s := Stats{
		Out: c.out.Load(), In: c.in.Load(), Gone: c.gone.Load(), Cancelled: c.cancelled.Load(), Broken: c.broken.Load(), Busy: c.busy.Load(),
		StreamsOut: c.streamsOut.Load(), StreamsIn: c.streamsIn.Load(), AsksOut: c.asksOut.Load(), AsksIn: c.asksIn.Load(),
		LinksMade: c.made.Load(), LinksFailed: c.failed.Load(), LinksRefused: c.refused.Load(), Breaks: c.breaks.Load(),
		CarrierOut: c.carrierOut.Load(), CarrierIn: c.carrierIn.Load(), Dropped: c.dropped.Load(), Passing: int(c.passing.Load()),
	}
	for _, x := range p.view.Load().peers {
		x.mu.Lock()
		outs := [...]*outbound{x.link, x.via.end()}
		ins := [...]*inbound{x.inLink, x.inVia.end()}
		x.mu.Unlock()
		for i, o := range outs {
			if o == nil {
				continue
			}
			o.mu.Lock()
			s.Waiting += len(o.calls)
			o.mu.Unlock()
			if i == 0 {
				s.Links++
			} else {
				s.Carriers++
			}
		}
		for i, in := range ins {
			if in == nil {
				continue
			}
			in.mu.Lock()
			s.Serving += in.active()
			in.mu.Unlock()
			if i == 0 {
				s.Links++
			} else {
				s.Carriers++
			}
		}
	}
	return s
}
