package pgbus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/recovery"
)

// Statements that change several sessions lock them in the order of their ids, so that no two wait for each other.

// A creation is a session to be stored.
type creation struct {
	pid, state []byte
	revision   string
	ttl        time.Duration
}

// Create stores a session, together with others that come at the same time.
func (l *Log) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	c := &creation{[]byte(s.PID), appendSession(nil, s), rand.Text(), ttl}
	if err := l.creations.do(ctx, c); err != nil {
		return fmt.Errorf("pgbus: create a session: %w", err)
	}
	s.Revision = c.revision
	return nil
}

func (l *Log) createAll(ctx context.Context, cs []*creation) error {
	last := make(map[string]int, len(cs)) // of those of one id, the last stays
	for i, c := range cs {
		last[string(c.pid)] = i
	}
	pids, states := make([][]byte, 0, len(last)), make([][]byte, 0, len(last))
	revisions, ttls := make([]string, 0, len(last)), make([]float64, 0, len(last))
	for i, c := range cs {
		if last[string(c.pid)] == i {
			pids, states = append(pids, c.pid), append(states, c.state)
			revisions, ttls = append(revisions, c.revision), append(ttls, c.ttl.Seconds())
		}
	}
	return l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, "INSERT INTO "+l.sessions+" (pid, revision, state, expires_at)"+
			" SELECT pid, revision, state, now() + make_interval(secs => ttl)"+
			" FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::float8[]) AS u (pid, revision, state, ttl) ORDER BY pid"+
			" ON CONFLICT (pid) DO UPDATE SET revision = excluded.revision, state = excluded.state, expires_at = excluded.expires_at",
			pids, revisions, states, ttls)
		return err
	})
}

// Update stores sessions, all in one statement.
func (l *Log) Update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	if len(ss) == 0 {
		return nil, nil
	}
	pids, states := make([][]byte, len(ss)), make([][]byte, len(ss))
	olds, news := make([]string, len(ss)), make([]string, len(ss))
	for i, s := range ss {
		pids[i], states[i], olds[i], news[i] = []byte(s.PID), appendSession(nil, s), s.Revision, rand.Text()
	}
	// When a try is broken off, nobody knows whether it was done. The next one may find the session as
	// it left it.
	stored := make(map[string]bool, len(ss))
	for range 2 {
		err = l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
			rows, err := c.Query(ctx, "WITH mine AS MATERIALIZED (SELECT pid FROM "+l.sessions+" WHERE pid = ANY($1::bytea[]) ORDER BY pid FOR UPDATE)"+
				" UPDATE "+l.sessions+" s SET revision = u.becomes, state = u.state, expires_at = now() + make_interval(secs => $5)"+
				" FROM mine JOIN unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[]) AS u (pid, was, becomes, state) USING (pid)"+
				" WHERE s.pid = mine.pid AND s.revision IN (u.was, u.becomes) AND s.expires_at > now() RETURNING u.becomes", pids, olds, news, states, ttl.Seconds())
			if err != nil {
				return err
			}
			var revision string
			_, err = pgx.ForEachRow(rows, []any{&revision}, func() error { stored[revision] = true; return nil })
			return err
		})
		if !errors.Is(err, ErrAway) && code(err) != deadlockDetected || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("pgbus: update sessions: %w", err)
	}
	for i, s := range ss {
		if stored[news[i]] {
			s.Revision = news[i]
		} else {
			taken = append(taken, s)
		}
	}
	return taken, nil
}

// A taking is a session that is to be had, and what was found of it.
type taking struct {
	pid, state []byte
	revision   string
	found      bool
}

// Take returns a session and removes it, together with others that are taken at the same time.
func (l *Log) Take(ctx context.Context, pid string) (*recovery.Session, error) {
	t := &taking{pid: []byte(pid)}
	err := l.takings.do(ctx, t)
	if err == nil && !t.found {
		err = recovery.ErrUnknown
	}
	var s *recovery.Session
	if err == nil {
		s = &recovery.Session{PID: pid, Revision: t.revision}
		err = readSession(t.state, s)
	}
	if err != nil {
		return nil, fmt.Errorf("pgbus: take a session: %w", err)
	}
	return s, nil
}

func (l *Log) takeAll(ctx context.Context, ts []*taking) error {
	first := make(map[string]*taking, len(ts)) // of those who want one session, the first gets it
	pids := make([][]byte, 0, len(ts))
	for _, t := range ts {
		if first[string(t.pid)] == nil {
			first[string(t.pid)] = t
			pids = append(pids, t.pid)
		}
	}
	return l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, "WITH mine AS MATERIALIZED (SELECT pid FROM "+l.sessions+" WHERE pid = ANY($1::bytea[]) AND expires_at > now() ORDER BY pid FOR UPDATE)"+
			" DELETE FROM "+l.sessions+" s USING mine WHERE s.pid = mine.pid RETURNING s.pid, s.revision, s.state", pids)
		if err != nil {
			return err
		}
		var pid, state []byte
		var revision string
		_, err = pgx.ForEachRow(rows, []any{&pid, &revision, &state}, func() error {
			t := first[string(pid)]
			t.found, t.revision, t.state = true, revision, append([]byte{}, state...)
			return nil
		})
		return err
	})
}

// Drop removes a session.
func (l *Log) Drop(ctx context.Context, s *recovery.Session) error {
	err := l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, "DELETE FROM "+l.sessions+" WHERE pid = $1 AND revision = $2", []byte(s.PID), s.Revision)
		return err
	})
	if err != nil {
		return fmt.Errorf("pgbus: drop a session: %w", err)
	}
	return nil
}

// sessionVersion begins the state of a session.
const sessionVersion = 1

// appendSession writes a session but for its PID and its revision: a version, and strings, each with
// its length in front.
func appendSession(b []byte, s *recovery.Session) []byte {
	b = append(b, sessionVersion)
	for _, v := range []string{s.SID, s.Namespace, string(s.Data), s.Offset, s.Last, s.Start} {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	for _, room := range s.Rooms {
		b = binary.AppendUvarint(b, uint64(len(room)))
		b = append(b, room...)
	}
	return b
}

var errSession = errors.New("the state of the session is none that this program knows")

// readSession reads what appendSession wrote.
func readSession(b []byte, s *recovery.Session) error {
	if len(b) == 0 || b[0] != sessionVersion {
		return errSession
	}
	b = b[1:]
	ok := true
	next := func() string {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			ok, b = false, nil
			return ""
		}
		v := string(b[size : size+int(n)])
		b = b[size+int(n):]
		return v
	}
	s.SID, s.Namespace = next(), next()
	if data := next(); data != "" {
		s.Data = []byte(data)
	}
	s.Offset, s.Last, s.Start = next(), next(), next()
	for len(b) > 0 && ok {
		s.Rooms = append(s.Rooms, next())
	}
	if !ok {
		return errSession
	}
	return nil
}
