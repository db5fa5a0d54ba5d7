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

// Create stores a session.
func (l *Log) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	revision := rand.Text()
	err := l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, "INSERT INTO "+l.sessions+" (pid, revision, state, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4))"+
			" ON CONFLICT (pid) DO UPDATE SET revision = excluded.revision, state = excluded.state, expires_at = excluded.expires_at",
			[]byte(s.PID), revision, appendSession(nil, s), ttl.Seconds())
		return err
	})
	if err != nil {
		return fmt.Errorf("pgbus: create a session: %w", err)
	}
	s.Revision = revision
	return nil
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
			rows, err := c.Query(ctx, "UPDATE "+l.sessions+" s SET revision = u.becomes, state = u.state, expires_at = now() + make_interval(secs => $5)"+
				" FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[]) AS u (pid, was, becomes, state)"+
				" WHERE s.pid = u.pid AND s.revision IN (u.was, u.becomes) AND s.expires_at > now() RETURNING u.becomes", pids, olds, news, states, ttl.Seconds())
			if err != nil {
				return err
			}
			var revision string
			_, err = pgx.ForEachRow(rows, []any{&revision}, func() error { stored[revision] = true; return nil })
			return err
		})
		if !errors.Is(err, ErrAway) || ctx.Err() != nil {
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

// Take returns a session and removes it.
func (l *Log) Take(ctx context.Context, pid string) (*recovery.Session, error) {
	s := &recovery.Session{PID: pid}
	var state []byte
	err := l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, "DELETE FROM "+l.sessions+" WHERE pid = $1 AND expires_at > now() RETURNING revision, state", []byte(pid)).Scan(&s.Revision, &state)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = recovery.ErrUnknown
	}
	if err == nil {
		err = readSession(state, s)
	}
	if err != nil {
		return nil, fmt.Errorf("pgbus: take a session: %w", err)
	}
	return s, nil
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
