package redisstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/internal/redissub"
)

const (
	longestPause = time.Second // between two tries

	slack     = 2 * time.Second // how much longer than BlockTime an answer may take
	maxBatch  = 16 << 20        // about as many bytes are read at once, as far as earlier entries tell
	complains = time.Minute     // between two complaints about one that lasts
)

// A reader reads one stream for all that subscribe to entries of it.
type reader struct {
	bus   *Bus
	key   string
	stop  context.CancelFunc
	ended chan struct{}

	// The loop's.
	number int64 // of the last entry read, the first ever being 1; -1 where it is not known
	count  int   // entries to read at once

	// bus.mu guards these.
	at   id // the last entry that was read and delivered
	subs map[*subscription]struct{}

	again chan struct{} // holds a token when it is worth while to try again at once

	mu  sync.Mutex
	cut context.CancelFunc // ends the read that waits
}

// read has entries of streams delivered to s, from when it returns.
func (b *Bus) read(ctx context.Context, s *subscription, keys ...string) error {
	for _, key := range keys {
		if err := b.readOne(ctx, s, key); err != nil {
			s.Close()
			return err
		}
	}
	return nil
}

func (b *Bus) readOne(ctx context.Context, s *subscription, key string) error {
	limited, cancel := context.WithTimeout(ctx, max(b.o.PublishTimeout, time.Second))
	defer cancel()
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	st, err := b.state(limited, key, true)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.start == nil {
		s.start = make(map[string]id)
	}
	s.start[key] = st.last
	s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	r := b.readers[key]
	if r == nil {
		r = &reader{
			bus: b, key: key, ended: make(chan struct{}), again: make(chan struct{}, 1), number: st.added, count: b.o.ReadCount,
			at: st.last, subs: make(map[*subscription]struct{}),
		}
		b.readers[key] = r
		var ctx context.Context
		ctx, r.stop = context.WithCancel(b.ctx)
		b.tasks.Go(func() {
			defer close(r.ended)
			r.run(ctx)
		})
	}
	s.readers = append(s.readers, r)
	r.subs[s] = struct{}{}
	b.subs[s] = struct{}{}
	return nil
}

// leave takes a subscription away, and ends the reader with its last one.
func (r *reader) leave(s *subscription) {
	b := r.bus
	b.mu.Lock()
	delete(r.subs, s)
	last := len(r.subs) == 0
	if last && b.readers[r.key] == r {
		delete(b.readers, r.key)
	}
	b.mu.Unlock()
	if last {
		r.stop()
		<-r.ended
	}
}

// run reads until ctx ends. After a failure it goes on where it was.
func (r *reader) run(ctx context.Context) {
	pause := redissub.FirstPause
	var failed time.Time // when the failure that lasts began, or was complained about last
	check := true        // something may have been trimmed since we read
	for ctx.Err() == nil {
		var err error
		if check {
			err = r.check(ctx)
		}
		if err == nil {
			err = r.next(ctx, check)
		}
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if check = false; !failed.IsZero() {
				r.bus.count.reconnects.Add(1)
				r.bus.o.Logger.Info("redisstream: the stream is read again", "stream", r.key)
				failed = time.Time{}
			}
			pause = redissub.FirstPause
		default:
			check = true
			if failed.IsZero() || time.Since(failed) > complains {
				r.bus.o.Logger.Warn("redisstream: the stream cannot be read; trying again, nothing is lost as long as it is kept", "stream", r.key, "err", err)
				failed = time.Now()
			}
			longest := longestPause / 10
			if lasts(err) {
				longest = longestPause
			}
			pause = min(pause, longest)
			r.sleep(ctx, pause)
			pause *= 2
		}
	}
}

// lasts reports whether Redis will say the same when it is asked again soon.
func lasts(err error) bool {
	e, ok := rueidis.IsRedisErr(err)
	if !ok {
		return false
	}
	word, _, _ := strings.Cut(e.Error(), " ")
	return word == "WRONGTYPE" || word == "NOPERM" || word == "NOAUTH" || word == "WRONGPASS" || word == "ERR"
}

// sleep waits for d, or until it is worth while to try again.
func (r *reader) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.again:
	case <-ctx.Done():
	}
}

// kick has the reader try again at once: the read that waits may do so on a connection that is dead.
func (r *reader) kick() {
	r.mu.Lock()
	if r.cut != nil {
		r.cut()
	}
	r.mu.Unlock()
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// check looks whether the stream is still the one that was read, and what of it was trimmed meanwhile.
func (r *reader) check(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, max(r.bus.o.PublishTimeout, time.Second))
	defer cancel()
	st, err := r.bus.state(limited, r.key, true)
	if err != nil {
		return err
	}
	switch {
	case st.last.before(r.at):
		r.bus.o.Logger.Warn("redisstream: Redis has lost the end of the stream, or all of it; what is written from now on is read",
			"stream", r.key, "read", r.at.String(), "last", st.last.String())
		at := id{}
		if st.length == 0 || st.first.before(r.at) {
			at = st.last
		}
		r.gap(at)
		r.number = -1
	case st.gone(r.at, r.number) != 0:
		if at := st.first.previous(); st.length > 0 {
			r.gap(at)
			r.number = st.added - st.length
		} else {
			r.gap(st.last)
			r.number = st.added
		}
	case st.last == r.at:
		r.number = st.added
	}
	return nil
}

// gap tells all that entries up to a place are no longer kept.
func (r *reader) gap(at id) {
	r.bus.count.trimmed.Add(1)
	for s := range r.subscriptions() {
		s.mu.Lock()
		if s.deliver != nil && s.start[r.key].before(at) {
			s.deliver(s.topic, at.String(), nil)
		} else if s.deliver != nil && at.before(s.start[r.key]) {
			s.start[r.key] = at // of a stream that is begun anew
		}
		s.mu.Unlock()
	}
	r.move(at)
}

func (r *reader) subscriptions() map[*subscription]struct{} {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	return maps.Clone(r.subs)
}

// move says that all up to a place was read.
func (r *reader) move(at id) {
	b := r.bus
	b.mu.Lock()
	r.at = at
	close(b.moved)
	b.moved = make(chan struct{})
	b.mu.Unlock()
}

// next waits for entries and delivers them. doubt says that some may have been trimmed before.
func (r *reader) next(ctx context.Context, doubt bool) error {
	began, entries, err := r.fetch(ctx)
	if err != nil || len(entries) == 0 {
		return err
	}
	ids := make([]id, len(entries))
	for i := range entries {
		var ok bool
		if ids[i], ok = parseID(entries[i].ID); !ok {
			return fmt.Errorf("%q is no id of a stream", entries[i].ID)
		}
	}
	if doubt || r.doubtful(began, ids[0], len(ids)) {
		if err := r.look(ctx, ids); err != nil {
			return err
		}
	}
	subs := r.subscriptions()
	size := 0
	for i, e := range entries {
		namespace, data := join(e.FieldValues)
		size += len(data)
		if namespace == "" {
			continue // it is for nobody
		}
		for s := range subs {
			if s.namespace == "" || s.namespace == namespace {
				s.entry(r.key, ids[i], data)
			}
		}
	}
	r.bus.count.read.Add(uint64(len(entries)))
	if r.number >= 0 {
		r.number += int64(len(entries))
	}
	r.count = min(max(maxBatch/(size/len(entries)+1), 1), r.bus.o.ReadCount)
	r.move(ids[len(ids)-1])
	return nil
}

// entry delivers one entry of a stream.
func (s *subscription) entry(key string, at id, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliver != nil && s.start[key].before(at) {
		s.deliver(s.topic, at.String(), data)
	}
}

// fetch reads entries behind the last one, and waits for some where there are none. began is Redis's clock when
// the read began, in milliseconds.
func (r *reader) fetch(ctx context.Context) (began uint64, entries []rueidis.XRangeSlice, err error) {
	b := r.bus
	// Without a deadline, since the client does not notice in time that a context with one is cancelled.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(b.o.BlockTime+slack, cancel)
	defer late.Stop()
	r.mu.Lock()
	r.cut = cancel
	r.mu.Unlock()

	answers := r.do(ctx,
		b.client.B().Arbitrary("TIME").Build().SetSlot(r.key),
		// Arbitrary, because the client would repeat its own XREAD until ctx ends.
		b.client.B().Arbitrary("XREAD", "COUNT", strconv.Itoa(r.count), "BLOCK", strconv.FormatInt(b.o.BlockTime.Milliseconds(), 10), "STREAMS").
			Keys(r.key).Args(r.at.String()).Blocking(),
	)
	if len(answers) != 2 {
		return 0, nil, errors.New("no answer")
	}
	clock, err := answers[0].AsStrSlice()
	if err != nil {
		return 0, nil, err
	}
	if len(clock) != 2 {
		return 0, nil, errors.New("a time that is none")
	}
	seconds, err1 := strconv.ParseUint(clock[0], 10, 53)
	micros, err2 := strconv.ParseUint(clock[1], 10, 53)
	if err := errors.Join(err1, err2); err != nil {
		return 0, nil, err
	}
	streams, err := answers[1].AsXReadSlices()
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	return seconds*1000 + micros/1000, streams[r.key], err
}

// do executes commands on a connection that nobody else uses meanwhile. In a Redis Cluster it is one that follows no
// redirection by itself: of the commands in one go, the client can repeat but all.
func (r *reader) do(ctx context.Context, commands ...rueidis.Completed) []rueidis.RedisResult {
	if r.bus.client.Mode() != rueidis.ClientModeCluster {
		return r.bus.client.DoMulti(ctx, commands...)
	}
	client, release := r.bus.client.Dedicate()
	defer release()
	answers := client.DoMulti(ctx, commands...)
	for _, a := range answers {
		if a.NonRedisError() != nil {
			client.Close() // an answer may still come on it
			break
		}
	}
	return answers
}

// doubtful reports whether entries may have been trimmed between the last one and the n read now, of which first is the
// first, by a read that began at the given time. That cannot be where the read waited for first, unless more were written
// in one step than the stream keeps; nor where less time has passed than Redis takes to write as many
// entries as it keeps, at a thousand in a millisecond.
func (r *reader) doubtful(began uint64, first id, n int) bool {
	limit := r.bus.o.MaxLen
	switch {
	case limit < 0, first.ms == r.at.ms && first.seq == r.at.seq+1:
		return false
	case first.ms > began && n < r.count && int64(n) < limit:
		return false
	default:
		return first.ms == r.at.ms || first.ms-r.at.ms >= uint64(limit)/1000
	}
}

// look finds out whether entries were trimmed between the last one and those that were read now, whose ids are given.
func (r *reader) look(ctx context.Context, ids []id) error {
	limited, cancel := context.WithTimeout(ctx, max(r.bus.o.PublishTimeout, time.Second))
	defer cancel()
	st, err := r.bus.state(limited, r.key, false)
	if err != nil {
		return err
	}
	gone := st.gone(r.at, r.number)
	if gone == 0 {
		return nil
	}
	have := int64(0) // of those that are gone, how many we hold in our hands
	for _, at := range ids {
		if st.length == 0 || at.before(st.first) {
			have++
		}
	}
	switch {
	case gone < 0 && have < int64(len(ids)):
		r.gap(ids[0].previous())
	case gone < 0:
		// All that we hold is gone too: whether something before it was, nobody knows.
		r.gap(ids[0].previous())
	case have < int64(len(ids)) && gone > have:
		r.gap(ids[0].previous())
		r.number += gone - have
	}
	// Where all that we hold is gone too, the rest may be behind it: the next read finds out.
	return nil
}
