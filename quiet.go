package atoll

import (
	"context"
	"time"
)

// A quiet is what the saver's goroutine knows of a namespace in which perhaps nothing is sent.
type quiet struct {
	position string
	looked   time.Time
}

// advance has the positions of quiet namespaces move on, so that what is about to be written of their sockets is not
// forgotten by the log because of others. Each look reads from the log, so it makes few, and each once in Refresh.
func (v *saver) advance(batch []*Socket) {
	const most = 16
	looks := 0
	for _, s := range batch {
		q := &s.ns.quiet
		if time.Since(q.looked) < v.r.o.Refresh {
			continue
		}
		q.looked = time.Now()
		was := q.position
		if q.position = v.r.position(s.ns); q.position != was {
			continue
		}
		ctx, cancel := context.WithTimeout(v.r.srv.ctx, time.Second)
		if err := v.r.advance(ctx, s.ns); err != nil {
			v.r.srv.log.Debug("a quiet namespace stays where it is in the log", "nsp", s.ns.name, "err", err)
		}
		cancel()
		q.position = v.r.position(s.ns)
		if looks++; looks == most {
			return
		}
	}
}
