package atoll

import (
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/remote"
)

// drainOrder takes what a program of the cluster wants of this node, and answers how far it is. It does not wait.
func (srv *Server) drainOrder(args event.Args, answer func(cluster.Answer)) {
	if answer == nil {
		return
	}
	var o remote.DrainOrder
	if err := args.Decode(0, &o); err != nil {
		return
	}
	r := remote.DrainReport{ID: srv.node, Tag: srv.tag.String()}
	if node := srv.opts.Cluster; node != nil {
		r.Name = node.Name()
	}
	if o.Node == srv.node && o.Do != remote.Report {
		r.Error = srv.obey(&o)
	}
	stats, down := srv.drain.stats(srv.eng)
	r.State, r.Asked, r.Cut, r.Left = string(stats.State), stats.Asked, stats.Cut, len(srv.eng.Sessions())
	if down {
		r.State = "shutting down"
	}
	data, _, err := event.Append([]byte{'['}, nil, r)
	if err != nil {
		return
	}
	answer(cluster.Answer{First: true, Data: append(data, ']')})
}

// obey returns why it does not.
func (srv *Server) obey(o *remote.DrainOrder) string {
	own := srv.opts.Drain
	if own != nil && own.Local {
		return "this node is not drained by others (DrainOptions.Local)"
	}
	switch o.Do {
	case remote.Begin:
		d := own
		if o.Lead != 0 || o.Window != 0 || o.Rate != 0 {
			d = &DrainOptions{Lead: millis(o.Lead), Window: millis(o.Window), Rate: o.Rate}
			if own != nil && d.Lead == 0 {
				d.Lead = own.Lead
			}
			if own != nil && d.Window == 0 && d.Rate == 0 {
				d.Window, d.Rate = own.Window, own.Rate
			}
		}
		_, _ = srv.beginDrain(d) // where it is drained, that is what was wanted
	case remote.Undo:
		srv.work.Go(func() { srv.Undrain() })
	default:
		return "this node does not know the order " + o.Do
	}
	return ""
}

// millis makes a duration of what came from outside.
func millis(ms int64) time.Duration {
	const most = int64(24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(ms, -1), most)) * time.Millisecond
}
