package atoll

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/atollhq/atoll/recovery"
)

const (
	saveBatch = 512 // sessions written at once
	saveFirst = 100 * time.Millisecond
	saveMost  = 5 * time.Second
	droppers  = 8 // sessions dropped at once
)

// A saver writes the sessions of sockets to the store, while they are connected and when they
// end. While there is something to write, one goroutine does; what changes meanwhile is in its
// next round, however often it did.
type saver struct {
	r *recoverer

	mu      sync.Mutex
	queue   []*Socket
	running bool
	due     list.List // of *Socket, by the time they were last written: the oldest is to be written first
	timer   *time.Timer
	gone    map[string]*Socket // that have ended, and the store does not know it yet, by pid
}

// waiting is a socket's place in the saver. The saver's mu guards it.
type waiting struct {
	queued  bool
	ended   bool
	saved   time.Time
	element *list.Element // in due
}

// touch has the state of a socket written.
func (v *saver) touch(s *Socket) {
	s.mu.Lock()
	live := s.rec.live
	s.rec.dirty = s.rec.dirty || !live
	s.mu.Unlock()
	if live {
		v.add(s)
	}
}

// touchFirst is for a socket that was just written: it is written again when it is due, or now if
// something changed meanwhile.
func (v *saver) touchFirst(s *Socket) {
	s.mu.Lock()
	dirty := s.rec.dirty
	s.mu.Unlock()
	if dirty {
		v.add(s)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrote(s)
}

func (v *saver) add(s *Socket) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(s)
}

// put queues s. v.mu is held.
func (v *saver) put(s *Socket) {
	if w := &s.rec.wait; !w.queued {
		w.queued = true
		v.queue = append(v.queue, s)
	}
	if !v.running {
		v.running = true
		v.r.srv.work.Go(v.run)
	}
}

// end has the last state of a socket written, or its session dropped.
func (v *saver) end(s *Socket, how ending) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := &s.rec.wait
	w.ended = true
	if w.element != nil {
		v.due.Remove(w.element)
		w.element = nil
	}
	if how != replaced {
		if v.gone == nil {
			v.gone = make(map[string]*Socket)
		}
		v.gone[s.rec.pid] = s
	}
	v.put(s)
}

// cut returns a socket that was cut off a moment ago, and is not written yet.
func (v *saver) cut(pid string) *Socket {
	if s := v.ended(pid); s != nil && s.ending() == cutOff {
		return s
	}
	return nil
}

// dropping reports whether a session is about to be dropped.
func (v *saver) dropping(pid string) bool {
	s := v.ended(pid)
	return s != nil && s.ending() == dropped
}

func (v *saver) ended(pid string) *Socket {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone[pid]
}

func (s *Socket) ending() ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.ending
}

// wrote notes that s was written just now. v.mu is held.
func (v *saver) wrote(s *Socket) {
	w := &s.rec.wait
	w.saved = time.Now()
	switch {
	case w.ended:
		return
	case w.element != nil:
		v.due.MoveToBack(w.element)
	default:
		w.element = v.due.PushBack(s)
	}
	if v.timer == nil {
		v.timer = time.AfterFunc(v.r.o.Refresh, v.refresh)
	}
}

// refresh queues what is due. It is called by the timer.
func (v *saver) refresh() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.timer = nil
	for e := v.due.Front(); e != nil; e = v.due.Front() {
		s := e.Value.(*Socket)
		if left := v.r.o.Refresh - time.Since(s.rec.wait.saved); left > 0 {
			v.timer = time.AfterFunc(left, v.refresh)
			return
		}
		v.due.Remove(e)
		s.rec.wait.element = nil
		v.put(s)
	}
}

// run writes until nothing waits. While the store is away it tries again, with pauses, until
// the server ends.
func (v *saver) run() {
	pause := saveFirst
	for {
		v.mu.Lock()
		n := min(len(v.queue), saveBatch)
		batch := v.queue[:n:n]
		if v.queue = v.queue[n:]; n == 0 {
			v.queue, v.running = nil, false
			v.mu.Unlock()
			return
		}
		for _, s := range batch {
			s.rec.wait.queued = false
		}
		v.mu.Unlock()
		v.advance(batch)
		err := v.save(batch)
		if err == nil {
			pause = saveFirst
			continue
		}
		if pause == saveFirst {
			v.r.srv.log.Warn("sessions cannot be stored; trying again", "sessions", n, "err", err)
		}
		over := v.r.srv.ctx.Err() != nil
		if !over {
			select {
			case <-time.After(pause):
			case <-v.r.srv.ctx.Done():
			}
			pause = min(2*pause, saveMost)
		}
		v.mu.Lock()
		for _, s := range batch {
			if !over {
				v.put(s)
			}
		}
		if over { // it will not get better
			v.queue, v.gone = nil, nil
		}
		v.queue = slices.DeleteFunc(v.queue, v.outlived)
		v.mu.Unlock()
	}
}

// outlived reports whether s has ended so long ago that the store has forgotten its session by itself. It forgets s.
// v.mu is held.
func (v *saver) outlived(s *Socket) bool {
	s.mu.Lock()
	over := s.rec.ending != alive && time.Since(s.rec.since) > v.r.ttl()
	s.mu.Unlock()
	if over {
		s.rec.wait.queued = false
		if v.gone[s.rec.pid] == s {
			delete(v.gone, s.rec.pid)
		}
	}
	return over
}

// save writes a batch, each socket as its state asks for. After an error it can be called again.
func (v *saver) save(batch []*Socket) error {
	limit := storeTimeout
	if v.r.srv.ctx.Err() != nil {
		limit = time.Second // the end does not wait long
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var lives, cuts, drops, again []*Socket
	for _, s := range batch {
		s.mu.Lock()
		ending, missing := s.rec.ending, s.rec.missing
		s.mu.Unlock()
		switch {
		case ending >= dropped:
			drops = append(drops, s)
		case ending == cutOff && missing.IsZero():
			cuts = append(cuts, s)
		case ending == cutOff:
			v.done(s)
		case missing.IsZero():
			lives = append(lives, s)
		case time.Since(missing) >= v.r.o.Refresh/2:
			again = append(again, s)
		default:
			v.done(s)
		}
	}
	err := v.update(ctx, lives, v.r.ttl())
	if e := v.update(ctx, cuts, v.r.o.MaxDisconnection); err == nil {
		err = e
	}
	if e := v.each(again, func(s *Socket) error { return v.restore(ctx, s) }); err == nil {
		err = e
	}
	if e := v.each(drops, func(s *Socket) error { return v.drop(ctx, s) }); err == nil {
		err = e
	}
	return err
}

// drop removes the session of a socket whose client will not come back for it.
func (v *saver) drop(ctx context.Context, s *Socket) error {
	s.mu.Lock()
	session := s.rec.session
	s.mu.Unlock()
	if err := v.r.sessions.Drop(ctx, &session); err != nil {
		return err
	}
	v.done(s)
	return nil
}

// done notes that nothing is left to be done for s, for now.
func (v *saver) done(s *Socket) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrote(s)
	if v.gone[s.rec.pid] == s && !s.rec.wait.queued { // else its end is still to be written
		delete(v.gone, s.rec.pid)
	}
}

// each calls f for the sockets, some at once.
func (v *saver) each(ss []*Socket, f func(*Socket) error) (first error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *Socket)
	for range min(droppers, len(ss)) {
		wg.Go(func() {
			for s := range next {
				if err := f(s); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	for _, s := range ss {
		next <- s
	}
	close(next)
	wg.Wait()
	return first
}

// update writes sessions that the store should have.
func (v *saver) update(ctx context.Context, ss []*Socket, ttl time.Duration) error {
	if len(ss) == 0 {
		return nil
	}
	states := make([]*recovery.Session, len(ss))
	for i, s := range ss {
		session := v.r.snapshot(s)
		states[i] = &session
	}
	taken, err := v.r.sessions.Update(ctx, states, ttl)
	lost := make(map[*recovery.Session]bool, len(taken))
	for _, t := range taken {
		lost[t] = true
	}
	for i, s := range ss {
		switch {
		case lost[states[i]]:
			v.taken(s)
		case s.stored(states[i].Revision) || err == nil:
		default:
			continue // it is written again
		}
		v.done(s)
	}
	return err
}

// stored notes the revision that the store has given to the state of s. It reports whether that is a new one.
func (s *Socket) stored(revision string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.rec
	if k.session.Revision == revision {
		return false
	}
	k.previous, k.session.Revision = k.session.Revision, revision
	k.hinted = false // what was taken was not this one's
	return true
}

// taken deals with a session that the store does not have any more. Where another node said that it has taken
// it, the socket is closed. Otherwise the store may have lost it (it was emptied, it was started anew
// without what it held), and a living client is not to suffer from that: it is stored again, when
// it was time for the other node to say so.
func (v *saver) taken(s *Socket) {
	s.mu.Lock()
	k := s.rec
	over := k.hinted && k.ending == alive
	if !over {
		k.missing = time.Now()
	}
	s.mu.Unlock()
	if over {
		s.overtaken(s.id)
	}
}

// restore stores the session of a socket that the store has lost.
func (v *saver) restore(ctx context.Context, s *Socket) error {
	session := v.r.snapshot(s)
	if err := v.r.sessions.Create(ctx, &session, v.r.ttl()); err != nil {
		return err
	}
	s.stored(session.Revision)
	s.mu.Lock()
	s.rec.missing = time.Time{}
	s.mu.Unlock()
	v.done(s)
	return nil
}
