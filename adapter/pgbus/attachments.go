package pgbus

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// prepare makes the table where it is missing: Node.js nodes do not. Without it, and without the right
// to make it, what is small is sent all the same.
func (b *Bus) prepare(ctx context.Context, c *pgx.Conn) {
	if b.looked.Swap(true) {
		return
	}
	var there bool
	err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", b.table).Scan(&there)
	if err == nil && !there {
		err = b.migrate(ctx, c)
	}
	if code(err) != "" {
		b.o.Logger.Warn("pgbus: the table of large messages is missing and could not be made", "table", b.o.Table, "err", err)
	}
}

// migrate makes the table of attachments, as @socket.io/postgres-adapter documents it.
func (b *Bus) migrate(ctx context.Context, c *pgx.Conn) error {
	return inOrder(ctx, c, lockOf("schema", b.o.Table),
		"CREATE TABLE IF NOT EXISTS "+b.table+" (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)")
}

// inOrder performs statements while nobody else does who has the same lock: of two who make one
// table at once, PostgreSQL refuses one, IF NOT EXISTS or not.
func inOrder(ctx context.Context, c *pgx.Conn, lock int64, statements ...string) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lock); err != nil {
			return err
		}
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// clean removes old rows, once at first, and while this node writes or reads any: those of emitters nobody else removes.
func (b *Bus) clean() {
	pause := max(b.o.KeepAttachments, time.Second)
	b.stored.Store(time.Now().UnixNano())
	var last time.Time // when rows were last removed
	for sleep(b.ctx, pause) {
		if last.Sub(time.Unix(0, b.stored.Load())) > 2*pause {
			continue // all since then too
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		_, err := b.pool.Exec(ctx, "DELETE FROM "+b.table+" WHERE created_at < now() - make_interval(secs => $1)", b.o.KeepAttachments.Seconds())
		cancel()
		if err == nil || code(err) != "" { // what PostgreSQL refuses once it will refuse again
			last = began
		}
		if err != nil && code(err) != undefinedTable && b.ctx.Err() == nil {
			b.o.Logger.Warn("pgbus: old messages could not be removed", "table", b.o.Table, "err", err)
		}
	}
}
