package pgbus

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connect makes a connection as the pool would, which is none of the pool's: what it
// LISTENs to, and the order of what goes over it, are ours.
func connect(ctx context.Context, pool *pgxpool.Pool, params map[string]string, notified func(*pgconn.Notification)) (*pgx.Conn, error) {
	o := pool.Config()
	c := o.ConnConfig
	if o.BeforeConnect != nil {
		if err := o.BeforeConnect(ctx, c); err != nil {
			return nil, err
		}
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	c.StatementCacheCapacity = 64
	// A wait for notifications is broken off by a deadline, and must leave the connection as it is.
	c.BuildContextWatcherHandler = func(p *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: p.Conn()}
	}
	c.OnNotification = nil
	if notified != nil {
		c.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { notified(n) }
	}
	c.RuntimeParams = maps.Clone(c.RuntimeParams)
	if c.RuntimeParams == nil {
		c.RuntimeParams = make(map[string]string)
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "atoll"
	}
	maps.Copy(c.RuntimeParams, params)
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil && o.AfterConnect != nil {
		if err = o.AfterConnect(ctx, conn); err != nil {
			closeConn(conn)
		}
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// closeConn ends a connection without waiting for long.
func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.Close(ctx)
}

// Codes of errors that PostgreSQL reports.
//
// See https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	undefinedTable   = "42P01"
	undefinedSchema  = "3F000"
	deadlockDetected = "40P01"
)

// code returns the code of an error that PostgreSQL reported; empty for all others.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// hopeless reports whether an error says that another try will not help: a wrong password, no
// such database, no right to do it.
func hopeless(err error) bool {
	if errors.Is(err, ErrPooler) {
		return true
	}
	c := code(err)
	return len(c) == 5 && (c[:2] == "28" || c == "3D000" || c == "42501" || c == undefinedSchema)
}
