package pgbus

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// schemaVersion is the version of the tables.
const schemaVersion = 1

// Schema returns the statements that make the tables of a [Log], for those whose servers may not
// make tables. A Log performs them where the tables are missing. They may be performed again.
//
//	Table           id, topic, at, data: the messages, numbered in the order in which they became visible
//	Table_state     one row: version of the tables, and the last id that was trimmed
//	Table_sessions  pid, revision, state, expires_at: of connection state recovery
func Schema(o *LogOptions) []string {
	c := o.withDefaults()
	table, state, sessions := quoted(c.Table), beside(c.Table, "_state"), beside(c.Table, "_sessions")
	return []string{
		"CREATE TABLE IF NOT EXISTS " + table + " (" +
			"id bigserial PRIMARY KEY, topic bytea NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), data bytea NOT NULL)",
		"ALTER TABLE " + table + " ALTER COLUMN data SET STORAGE EXTERNAL", // messages do not compress well, and it takes time
		"CREATE TABLE IF NOT EXISTS " + state + " (" +
			"one boolean PRIMARY KEY DEFAULT true CHECK (one), version int NOT NULL, trimmed bigint NOT NULL)",
		fmt.Sprintf("INSERT INTO %s (version, trimmed) VALUES (%d, 0) ON CONFLICT DO NOTHING", state, schemaVersion),
		"CREATE TABLE IF NOT EXISTS " + sessions + " (" +
			"pid bytea PRIMARY KEY, revision text NOT NULL, state bytea NOT NULL, expires_at timestamptz NOT NULL)",
		"CREATE INDEX IF NOT EXISTS " + indexName(c.Table) + " ON " + sessions + " (expires_at)",
	}
}

// indexName returns the name of an index, which has no schema of its own.
func indexName(table string) string {
	_, name, ok := strings.Cut(table, ".")
	if !ok {
		name = table
	}
	return quotedName(name + "_expires")
}

func quotedName(name string) string { return pgx.Identifier{name}.Sanitize() }

// migrate makes the tables, and refuses those of a version that is not ours.
func (l *Log) migrate(ctx context.Context, c *pgx.Conn) error {
	var there bool
	err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL AND to_regclass($3) IS NOT NULL",
		l.table, l.state, l.sessions).Scan(&there)
	if err == nil && !there {
		err = inOrder(ctx, c, lockOf("schema", l.o.Table), Schema(&l.o)...)
	}
	if err != nil {
		return fmt.Errorf("the tables of the log could not be made: %w", err)
	}
	var version int
	if err := c.QueryRow(ctx, "SELECT version FROM "+l.state).Scan(&version); err != nil {
		return err
	}
	if version != schemaVersion {
		return fmt.Errorf("the table %s is of version %d, this program knows version %d: give this cluster a table of its own, or all nodes the same program",
			l.o.Table, version, schemaVersion)
	}
	return nil
}

// trimRows is how many rows are removed in one transaction.
const trimRows = 5000

// trim removes what is older, and more, than is to be kept, and sessions whose time is up.
func (l *Log) trim() {
	pause := time.Minute
	if l.o.Keep > 0 {
		pause = min(pause, max(l.o.Keep/10, 100*time.Millisecond))
	}
	for sleep(l.ctx, pause) {
		ctx, cancel := context.WithTimeout(l.ctx, patience)
		err := l.trimOnce(ctx)
		cancel()
		if err != nil && code(err) != undefinedTable && l.ctx.Err() == nil {
			l.o.Logger.Warn("pgbus: old messages could not be removed", "table", l.o.Table, "err", err)
		}
	}
}

// trimOnce removes what there is to remove: from the beginning on, as far as rows are old, or too many. One
// node at a time does it.
func (l *Log) trimOnce(ctx context.Context) error {
	query := `
		WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS ok),
		up AS (DELETE FROM ` + l.sessions + ` WHERE (SELECT ok FROM mine) AND expires_at <= now()),
		cut AS MATERIALIZED (
			SELECT max(id) AS last FROM (SELECT id, at FROM ` + l.table + ` ORDER BY id LIMIT $2) AS first
			WHERE (SELECT ok FROM mine) AND ($3::float8 > 0 AND at < now() - make_interval(secs => $3::float8)
				OR $4::bigint > 0 AND id <= (SELECT max(id) FROM ` + l.table + `) - $4::bigint)),
		note AS (UPDATE ` + l.state + ` SET trimmed = greatest(trimmed, (SELECT last FROM cut)) WHERE (SELECT last FROM cut) IS NOT NULL),
		gone AS (DELETE FROM ` + l.table + ` WHERE id <= (SELECT last FROM cut) RETURNING 1)
		SELECT count(*) FROM gone`
	for {
		var removed int64
		err := l.pool.QueryRow(ctx, query, lockOf("trim", l.o.Table), trimRows, l.o.Keep.Seconds(), l.o.MaxRows).Scan(&removed)
		if err != nil || removed < trimRows {
			return err
		}
	}
}
