package natsbus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/recovery"
)

// A session is the last message on a subject of its own, and its revision is that message's sequence. Who takes
// a session puts a grave in its place, on the condition that the session is still the last: JetStream lets
// one do so. Each message names its writer and the revision that it replaces, so that who got no answer,
// because the connection broke, finds out whether it was stored.

const (
	maxPID    = 512
	graveStay = time.Minute
	minTTL    = time.Second // what the server counts in
)

func (l *Log) sessionConfig(replicas int, ttls bool) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: l.sessionName(), Description: "the sessions of the clients of an Atoll cluster",
		Subjects: []string{l.sessions + ">"}, Storage: l.storage(), Replicas: replicas,
		MaxMsgsPerSubject: 1, MaxAge: l.o.SessionAge, Discard: jetstream.DiscardOld, Duplicates: time.Second,
		AllowMsgTTL: ttls,
	}
}

// openSessions makes the stream of sessions. Servers before 2.11 know no time to live for each
// message: there sessions stay for LogOptions.SessionAge, and are not given out after their time.
func (l *Log) openSessions(ctx context.Context, replicas int) error {
	s, err := l.js.CreateOrUpdateStream(ctx, l.sessionConfig(replicas, true))
	if err != nil && refused(err) {
		s, err = l.js.CreateOrUpdateStream(ctx, l.sessionConfig(replicas, false))
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ttls = s.CachedInfo().Config.AllowMsgTTL
	l.store = s
	return nil
}

// sessionSubject returns the subject of a session; nothing where no session can have that id.
func (l *Log) sessionSubject(pid string) (string, bool) {
	if pid == "" || len(pid) > maxPID {
		return "", false
	}
	return l.sessions + token(pid), true
}

// put stores data on the subject of a session for ttl, if its last message is revision where that is not 0.
func (l *Log) put(ctx context.Context, subject string, data []byte, ttl time.Duration, revision uint64) (seq uint64, err error) {
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, l.putOptions(ttl, revision)...)
	if err != nil {
		return 0, l.explain(err)
	}
	return ack.Sequence, nil
}

func (l *Log) putOptions(ttl time.Duration, revision uint64) []jetstream.PublishOpt {
	l.mu.Lock()
	ttls := l.ttls
	l.mu.Unlock()
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if ttls { // whole seconds, and never too short: the session knows its own time
		opts = append(opts, jetstream.WithMsgTTL(max(ttl, minTTL).Round(time.Second)+time.Second))
	}
	if revision != 0 {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(revision))
	}
	return opts
}

// patiently calls f again while JetStream is away, until ctx ends: a store may be moving to another
// process. Each time it gives f a context that ends when the connection breaks.
func (l *Log) patiently(ctx context.Context, f func(ctx context.Context) error) error {
	for pause := followPause; ; pause = min(2*pause, 10*followPause) {
		try, cancel := l.overLink(ctx, appendTimeout)
		err := f(try)
		again := errors.Is(err, ErrAway) || try.Err() != nil
		cancel()
		if err == nil || !again {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		case <-l.ctx.Done():
			return ErrClosed
		}
	}
}

// Create implements recovery.Sessions.
func (l *Log) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	subject, ok := l.sessionSubject(s.PID)
	if !ok {
		return fmt.Errorf("natsbus: create a session: an id of %d bytes: it must have 1 to %d", len(s.PID), maxPID)
	}
	ctx, cancel := l.limit(ctx)
	defer cancel()
	err := l.patiently(ctx, func(ctx context.Context) error {
		seq, err := l.put(ctx, subject, appendSession(l.writer, s, 0, time.Now().Add(ttl)), ttl, 0)
		if err == nil {
			s.Revision = strconv.FormatUint(seq, 10)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("natsbus: create a session: %w", err)
	}
	return nil
}

// inFlight is how many sessions are stored at a time.
const inFlight = 256

// Update implements recovery.Sessions.
func (l *Log) Update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	ctx, cancel := l.overLink(ctx, apiTimeout)
	defer cancel()
	for len(ss) > 0 && err == nil {
		n := min(len(ss), inFlight)
		var gone []*recovery.Session
		gone, err = l.update(ctx, ss[:n], ttl)
		taken = append(taken, gone...)
		ss = ss[n:]
	}
	if err != nil {
		return taken, fmt.Errorf("natsbus: update sessions: %w", err)
	}
	return taken, nil
}

func (l *Log) update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	if err := connected(l.js.Conn()); err != nil {
		return nil, err
	}
	futures := make([]jetstream.PubAckFuture, 0, len(ss))
	for _, s := range ss {
		subject, ok := l.sessionSubject(s.PID)
		revision, bad := strconv.ParseUint(s.Revision, 10, 64)
		if !ok || bad != nil || revision == 0 {
			futures = append(futures, nil)
			continue
		}
		m := &nats.Msg{Subject: subject, Data: appendSession(l.writer, s, revision, time.Now().Add(ttl))}
		f, e := l.js.PublishMsgAsync(m, l.putOptions(ttl, revision)...)
		if e != nil {
			err = l.explain(e)
			break
		}
		futures = append(futures, f)
	}
	for i, f := range futures {
		s := ss[i]
		if f == nil {
			taken = append(taken, s)
			continue
		}
		select {
		case ack := <-f.Ok():
			s.Revision = strconv.FormatUint(ack.Sequence, 10)
			continue
		case e := <-f.Err():
			if codeOf(e) != codeWrongSequence {
				err = cmp.Or(err, l.explain(e))
				continue
			}
		case <-ctx.Done():
			err = cmp.Or(err, context.Cause(ctx))
			continue
		}
		mine, e := l.updateAgain(ctx, s, ttl)
		if e != nil {
			err = cmp.Or(err, e)
		} else if !mine {
			taken = append(taken, s)
		}
	}
	return taken, err
}

// updateAgain updates a session whose revision is not the store's, if that is so because an earlier
// update had no answer. It reports false where somebody else has changed it.
func (l *Log) updateAgain(ctx context.Context, s *recovery.Session, ttl time.Duration) (mine bool, err error) {
	ctx, cancel := l.overLink(ctx, appendTimeout)
	defer cancel()
	subject, _ := l.sessionSubject(s.PID)
	x, err := l.storedAt(ctx, subject)
	if err != nil || x == nil || x.grave || x.writer != l.writer || strconv.FormatUint(x.replaced, 10) != s.Revision {
		return false, err
	}
	seq, err := l.put(ctx, subject, appendSession(l.writer, s, x.seq, time.Now().Add(ttl)), ttl, x.seq)
	if codeOf(err) == codeWrongSequence {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.Revision = strconv.FormatUint(seq, 10)
	return true, nil
}

// storedAt returns what is stored on a subject; nil where nothing is.
func (l *Log) storedAt(ctx context.Context, subject string) (*stored, error) {
	l.mu.Lock()
	stream := l.store // to look it up each time is one more question
	l.mu.Unlock()
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, l.explain(err)
	}
	x, err := readSession(m.Data)
	if err != nil {
		return nil, err
	}
	x.seq = m.Sequence
	return x, nil
}

// Take implements recovery.Sessions. While JetStream is away it waits until ctx ends, or for five seconds.
func (l *Log) Take(ctx context.Context, pid string) (s *recovery.Session, err error) {
	subject, ok := l.sessionSubject(pid)
	if !ok {
		return nil, fmt.Errorf("natsbus: take a session: %w", recovery.ErrUnknown)
	}
	ctx, cancel := l.limit(ctx)
	defer cancel()
	var x *stored // what we are taking
	token := rand.Text()
	err = l.patiently(ctx, func(ctx context.Context) error {
		for {
			now, err := l.storedAt(ctx, subject)
			switch {
			case errors.Is(err, errSession):
				return fmt.Errorf("%w: %w", recovery.ErrUnknown, err)
			case err != nil:
				return err
			case x != nil && now != nil && now.grave && now.replaced == x.seq && now.writer == token:
				return nil // ours, whose answer was lost
			case now == nil || now.grave:
				return recovery.ErrUnknown
			}
			x = now
			_, err = l.put(ctx, subject, appendGrave(token, x.seq), graveStay, x.seq)
			if codeOf(err) != codeWrongSequence {
				return err
			}
		}
	})
	if err == nil && time.Now().After(x.until) {
		err = fmt.Errorf("its time is up: %w", recovery.ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("natsbus: take a session: %w", err)
	}
	x.session.PID, x.session.Revision = pid, strconv.FormatUint(x.seq, 10)
	return x.session, nil
}

// Drop implements recovery.Sessions.
func (l *Log) Drop(ctx context.Context, s *recovery.Session) error {
	subject, ok := l.sessionSubject(s.PID)
	revision, err := strconv.ParseUint(s.Revision, 10, 64)
	if !ok || err != nil || revision == 0 {
		return nil
	}
	ctx, cancel := l.overLink(ctx, appendTimeout)
	defer cancel()
	if _, err := l.put(ctx, subject, appendGrave(l.writer, revision), graveStay, revision); err != nil && codeOf(err) != codeWrongSequence {
		return fmt.Errorf("natsbus: drop a session: %w", err)
	}
	return nil
}

func (l *Log) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, apiTimeout)
}
