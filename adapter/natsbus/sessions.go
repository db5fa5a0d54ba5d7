package natsbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/recovery"
)

// A session is the last message on a subject of its own, and its revision is that message's sequence. Who takes
// a session puts an empty message, its grave, in its place, on the condition that the session is still the last:
// JetStream lets one do so.

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
	return nil
}

// sessionSubject returns the subject of a session; nothing where no session can have that id.
func (l *Log) sessionSubject(pid string) (string, bool) {
	if pid == "" || len(pid) > maxPID {
		return "", false
	}
	return l.sessions + token(pid), true
}

// message makes the message that stores s for ttl; an empty one where s is nil.
func (l *Log) message(subject string, s *recovery.Session, ttl time.Duration) (*nats.Msg, []jetstream.PublishOpt) {
	m := &nats.Msg{Subject: subject}
	if s != nil {
		m.Data = appendSession(nil, s, time.Now().Add(ttl))
	}
	l.mu.Lock()
	ttls := l.ttls
	l.mu.Unlock()
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if ttls {
		opts = append(opts, jetstream.WithMsgTTL(max(ttl, minTTL).Round(time.Second)+time.Second))
	}
	return m, opts
}

// Create implements recovery.Sessions.
func (l *Log) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	subject, ok := l.sessionSubject(s.PID)
	if !ok {
		return fmt.Errorf("natsbus: create a session: an id of %d bytes: it must have 1 to %d", len(s.PID), maxPID)
	}
	ctx, cancel := l.limit(ctx)
	defer cancel()
	m, opts := l.message(subject, s, ttl)
	ack, err := l.js.PublishMsg(ctx, m, opts...)
	if err != nil {
		return fmt.Errorf("natsbus: create a session: %w", l.explain(err))
	}
	s.Revision = strconv.FormatUint(ack.Sequence, 10)
	return nil
}

// inFlight is how many sessions are stored at a time.
const inFlight = 256

// Update implements recovery.Sessions.
func (l *Log) Update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	ctx, cancel := l.limit(ctx)
	defer cancel()
	var errs []error
	for len(ss) > 0 && len(errs) == 0 {
		n := min(len(ss), inFlight)
		gone, err := l.update(ctx, ss[:n], ttl)
		taken = append(taken, gone...)
		if err != nil {
			errs = append(errs, err)
		}
		ss = ss[n:]
	}
	if len(errs) > 0 {
		return taken, fmt.Errorf("natsbus: update sessions: %w", errors.Join(errs...))
	}
	return taken, nil
}

func (l *Log) update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	futures := make([]jetstream.PubAckFuture, len(ss))
	for i, s := range ss {
		subject, ok := l.sessionSubject(s.PID)
		revision, bad := strconv.ParseUint(s.Revision, 10, 64)
		if !ok || bad != nil {
			continue
		}
		m, opts := l.message(subject, s, ttl)
		if futures[i], err = l.js.PublishMsgAsync(m, append(opts, jetstream.WithExpectLastSequencePerSubject(revision))...); err != nil {
			err = l.explain(err)
			ss = ss[:i]
			break
		}
	}
	for i, s := range ss {
		f := futures[i]
		if f == nil {
			taken = append(taken, s)
			continue
		}
		select {
		case ack := <-f.Ok():
			s.Revision = strconv.FormatUint(ack.Sequence, 10)
		case e := <-f.Err():
			if codeOf(e) == codeWrongSequence {
				taken = append(taken, s)
			} else if err == nil {
				err = l.explain(e)
			}
		case <-ctx.Done():
			if err == nil {
				err = context.Cause(ctx)
			}
		}
	}
	return taken, err
}

// Take implements recovery.Sessions.
func (l *Log) Take(ctx context.Context, pid string) (*recovery.Session, error) {
	subject, ok := l.sessionSubject(pid)
	if !ok {
		return nil, fmt.Errorf("natsbus: take a session: %w", recovery.ErrUnknown)
	}
	ctx, cancel := l.limit(ctx)
	defer cancel()
	stream, err := l.js.Stream(ctx, l.sessionName())
	if err != nil {
		return nil, fmt.Errorf("natsbus: take a session: %w", l.explain(err))
	}
	for {
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && len(m.Data) == 0 {
			return nil, fmt.Errorf("natsbus: take a session: %w", recovery.ErrUnknown)
		}
		if err != nil {
			return nil, fmt.Errorf("natsbus: take a session: %w", l.explain(err))
		}
		s, until, err := readSession(m.Data)
		if err != nil {
			return nil, fmt.Errorf("natsbus: take a session: %w: %w", recovery.ErrUnknown, err)
		}
		won, err := l.bury(ctx, subject, m.Sequence)
		switch {
		case err != nil:
			return nil, fmt.Errorf("natsbus: take a session: %w", err)
		case !won:
			continue // it was updated, or another took it
		case time.Now().After(until):
			return nil, fmt.Errorf("natsbus: take a session: its time is up: %w", recovery.ErrUnknown)
		}
		s.PID, s.Revision = pid, strconv.FormatUint(m.Sequence, 10)
		return s, nil
	}
}

// bury removes a session if its revision is still seq.
func (l *Log) bury(ctx context.Context, subject string, seq uint64) (done bool, err error) {
	m, opts := l.message(subject, nil, graveStay)
	_, err = l.js.PublishMsg(ctx, m, append(opts, jetstream.WithExpectLastSequencePerSubject(seq))...)
	if codeOf(err) == codeWrongSequence {
		return false, nil
	}
	if err != nil {
		return false, l.explain(err)
	}
	return true, nil
}

// Drop implements recovery.Sessions.
func (l *Log) Drop(ctx context.Context, s *recovery.Session) error {
	subject, ok := l.sessionSubject(s.PID)
	revision, err := strconv.ParseUint(s.Revision, 10, 64)
	if !ok || err != nil {
		return nil
	}
	ctx, cancel := l.limit(ctx)
	defer cancel()
	if _, err := l.bury(ctx, subject, revision); err != nil {
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

// A session is written as a version, the time until which it holds (nanoseconds) and its
// strings, each with its length before it.
const sessionVersion = 1

func appendSession(b []byte, s *recovery.Session, until time.Time) []byte {
	b = append(b, sessionVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(until.UnixNano()))
	for _, v := range []string{s.SID, s.Namespace, string(s.Data), s.Offset, s.Last, s.Start} {
		b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
	}
	for _, r := range s.Rooms {
		b = append(binary.AppendUvarint(b, uint64(len(r))), r...)
	}
	return b
}

var errSession = errors.New("a session that this version cannot read")

func readSession(b []byte) (s *recovery.Session, until time.Time, err error) {
	if len(b) < 9 || b[0] != sessionVersion {
		return nil, until, errSession
	}
	until = time.Unix(0, int64(binary.BigEndian.Uint64(b[1:])))
	var parts []string
	for b = b[9:]; len(b) > 0; {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, until, errSession
		}
		parts = append(parts, string(b[k:k+int(n)]))
		b = b[k+int(n):]
	}
	if len(parts) < 6 {
		return nil, until, errSession
	}
	s = &recovery.Session{SID: parts[0], Namespace: parts[1], Offset: parts[3], Last: parts[4], Start: parts[5]}
	if parts[2] != "" {
		s.Data = []byte(parts[2])
	}
	s.Rooms = parts[6:]
	return s, until, nil
}
