package pgbus

import (
	"errors"
	"log/slog"
	"time"
)

// Options are the settings of a [Bus]. A nil *Options means all defaults.
type Options struct {
	// Prefix begins the names of all channels; the Node.js adapter and emitter call it
	// channelPrefix. All nodes and emitters of a cluster have the same. If empty, "socket.io".
	Prefix string

	// Table holds what is too large for a notification, and binary; Node.js calls it tableName. It is
	// made where it is missing. It may begin with a schema and a dot. PostgreSQL makes lower case of the
	// name that Node.js gives it, so it should be in lower case. If empty, "socket_io_attachments".
	Table string

	// KeepAttachments is how long rows of Table are kept at least; Node.js calls it cleanupInterval.
	// The shortest of all nodes counts. If zero, 30 seconds. If negative, this node removes none.
	KeepAttachments time.Duration

	// Timeout is how long PostgreSQL may take to answer, once; after that, until it answers
	// again, Publish fails at once. If zero, 5 seconds.
	Timeout time.Duration

	// KeepAlive is how long the link may be silent before it is tested. If zero, 6 seconds:
	// what a node that announces itself every 5 seconds hears of itself is test enough.
	KeepAlive time.Duration

	// Logger is told when PostgreSQL goes and comes. If nil, slog.Default().
	Logger *slog.Logger
}

// LogOptions are the settings of a [Log]. A nil *LogOptions means all defaults.
type LogOptions struct {
	// Table is the log. Beside it are Table_state, with one row, and Table_sessions. They are
	// made where they are missing, see [Schema]. It may begin with a schema and a dot. All nodes of a
	// cluster have the same, and each cluster its own. If empty, "atoll_log".
	Table string

	// Keep is how long messages are kept at least: who was away for longer has missed some. It
	// should exceed the time for which sessions can be recovered. If zero, 10 minutes.
	// If negative, no message is removed because of its age. The shortest of all nodes counts.
	Keep time.Duration

	// MaxRows is about how many messages are kept at most. If zero, 1,000,000. If negative, any number.
	MaxRows int64

	// Async has PostgreSQL say that it has a message before it is on disk (synchronous_commit=off):
	// faster, but when the machine of PostgreSQL crashes, the messages of its last second may be gone. A
	// crash of PostgreSQL alone may lose them too.
	Async bool

	// Timeout, KeepAlive and Logger are as in Options.
	Timeout   time.Duration
	KeepAlive time.Duration
	Logger    *slog.Logger
}

var (
	// ErrClosed is what the methods of a Bus and of a Log return after its Close.
	ErrClosed = errors.New("pgbus: the bus is closed")

	// ErrAway is wrapped by the errors that say that PostgreSQL does not answer.
	ErrAway = errors.New("pgbus: PostgreSQL does not answer")

	// ErrPooler is wrapped by the errors of a bus whose connections do not keep what they LISTEN to.
	ErrPooler = errors.New("pgbus: LISTEN has no effect on this connection: it seems to go through a pooler in transaction mode " +
		"(PgBouncer): give the bus a pool that connects to PostgreSQL directly, or through a pooler in session mode")
)

const (
	defaultTimeout   = 5 * time.Second
	defaultKeepAlive = 6 * time.Second
	defaultKeep      = 10 * time.Minute
	defaultMaxRows   = 1_000_000
	defaultCleanup   = 30 * time.Second
)

func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	c.Prefix = orText(c.Prefix, "socket.io")
	c.Table = orText(c.Table, "socket_io_attachments")
	if c.KeepAttachments == 0 {
		c.KeepAttachments = defaultCleanup
	}
	c.Timeout = orTime(c.Timeout, defaultTimeout)
	c.KeepAlive = orTime(c.KeepAlive, defaultKeepAlive)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (o *LogOptions) withDefaults() LogOptions {
	var c LogOptions
	if o != nil {
		c = *o
	}
	c.Table = orText(c.Table, "atoll_log")
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.MaxRows == 0 {
		c.MaxRows = defaultMaxRows
	}
	c.Timeout = orTime(c.Timeout, defaultTimeout)
	c.KeepAlive = orTime(c.KeepAlive, defaultKeepAlive)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func orTime(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
