package cluster

import (
	"sync"
	"sync/atomic"
	"time"
)

// directLane is what the receiver calls the lane of what is told to it alone.
const directLane = "@"

const (
	maxOutlanes  = 1 << 17         // beyond them, messages have no numbers
	outlaneStays = 3 * inlaneStays // after its sender has last said anything of it: receivers have forgotten it by then
	maxMarks     = 256             // in one announcement
	fewLanes     = 32              // so many are in every announcement
	maxQuiet     = 512             // Progress messages between two announcements
)

// An outlet numbers what a node says, lane by lane, and keeps it to say it again.
type outlet struct {
	late atomic.Bool // some of what is kept could not be published yet

	mu      sync.Mutex
	all     outlane             // lane ""
	lanes   map[string]*outlane // the others that all, or those with members of a room, listen to
	direct  map[sender]*outlane // to one node each
	changed []*outlane          // those whose marks are to be told, each once
	tick    uint64              // announcements so far
	now     time.Time           // when the last one was made
	kept    keeper
	failed  []*outlane // with messages that could not be published, each once
}

// An outlane is one sequence of numbers.
type outlane struct {
	name   string
	to     sender    // of a direct lane
	born   time.Time // of a quiet lane: when it was made
	quiet  bool      // not all listen to it: its marks go where its messages go
	last   uint64    // number
	said   time.Time // its last number, or how far it is: not before the announcement that was made then
	age    int       // announcements since it was put on the list of changed lanes
	listed bool
	logged atomic.Bool // a Log has what is published of it
	slots  slots
}

// next takes a number of a lane. Where the lane has messages that could not be published, waiting is true.
func (o *outlet) next(l *outlane) (number uint64, waiting bool) {
	l.last++
	l.said = o.now
	if l.age = 0; !l.listed && l != &o.all {
		l.listed = true
		o.changed = append(o.changed, l)
	}
	if o.kept.limit > 0 {
		l.slots.extend(l.last)
	}
	return l.last, l.slots.failed > 0
}

// old returns for how long a lane has been there. A lane that is not quiet has none.
func (l *outlane) old() time.Duration {
	if !l.quiet {
		return 0
	}
	return max(time.Since(l.born), 1)
}

// mark returns how far a lane is, for those who listen. What waits to be appended to a log they need not miss yet, as
// it comes before all that follows; unless this is the end.
func (l *outlane) mark(end bool) uint64 {
	if l.logged.Load() && !end {
		if k := l.slots.firstFailed(); k > 0 {
			return k
		}
	}
	return l.last + 1
}

// number takes a number for what is told or asked on a lane to all, to a room or, if to has an
// id, to one node. The lane is nil where there are too many.
func (o *outlet) number(lane string, to sender, quiet bool) (l *outlane, number uint64, waiting bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l = o.find(lane, to); l == nil {
		if len(o.lanes)+len(o.direct) >= maxOutlanes {
			return nil, 0, false
		}
		l = &outlane{name: lane, to: to, quiet: quiet}
		if quiet {
			l.born = time.Now()
		}
		if to.id != "" {
			if o.direct == nil {
				o.direct = make(map[sender]*outlane)
			}
			o.direct[to] = l
		} else {
			if o.lanes == nil {
				o.lanes = make(map[string]*outlane)
			}
			o.lanes[lane] = l
		}
	}
	number, waiting = o.next(l)
	return l, number, waiting
}

// find returns a lane, nil if there is none. o.mu is held.
func (o *outlet) find(lane string, to sender) *outlane {
	switch {
	case to.id != "":
		return o.direct[to]
	case lane == "":
		return &o.all
	default:
		return o.lanes[lane]
	}
}

// due reports whether the mark of a lane is to be told once more: outages are of any length.
func due(age int, quiet bool) (tell, last bool) {
	switch age {
	case 0:
		return !quiet, false
	case 1, 4, 16:
		return true, quiet && age == 16
	case 60:
		return true, true
	}
	return false, false
}

// marks puts into an announcement how far the lanes are that all listen to, and returns the others that
// have become quiet.
func (o *outlet) marks(m *Message) (quiet []*Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tick++
	o.now = time.Now()
	end := m.Kind == Goodbye
	m.Number = o.all.mark(end)
	if o.tick%64 == 0 {
		o.sweep()
	}
	if len(o.lanes) <= fewLanes {
		m.AllMarks = true
		for _, l := range o.lanes {
			if !l.quiet {
				m.Marks = append(m.Marks, Mark{l.name, l.mark(end)})
				l.said = o.now
			}
		}
	}
	rest := o.changed[:0]
	for _, l := range o.changed {
		tell, last := due(l.age, l.quiet)
		switch {
		case !tell, !l.quiet && m.AllMarks:
		case l.quiet && len(quiet) < maxQuiet:
			p := &Message{Kind: Progress, Routed: l.to.id == "", To: l.to.id, ToLife: l.to.life, Age: l.old(), Marks: []Mark{{l.name, l.mark(end)}}}
			quiet = append(quiet, p)
		case !l.quiet && len(m.Marks) < maxMarks:
			m.Marks = append(m.Marks, Mark{l.name, l.mark(end)})
		default:
			rest = append(rest, l) // next time
			continue
		}
		if tell {
			l.said = o.now
		}
		l.age++
		if l.listed = !last; l.listed {
			rest = append(rest, l)
		}
	}
	clear(o.changed[len(rest):])
	o.changed = rest
	return quiet
}

// sweep forgets lanes of which nothing was said for so long that no receiver remembers them: they begin anew
// at 1. o.mu is held.
func (o *outlet) sweep() {
	old := func(l *outlane) bool { return o.now.Sub(l.said) > outlaneStays && !l.listed && l.slots.failed == 0 }
	for k, l := range o.lanes {
		if old(l) {
			delete(o.lanes, k)
		}
	}
	for k, l := range o.direct {
		if old(l) {
			delete(o.direct, k)
		}
	}
}
