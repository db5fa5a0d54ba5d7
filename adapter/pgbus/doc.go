// Package pgbus joins nodes to one cluster on PostgreSQL, in one of two formats.
//
// # The official format
//
// [New] makes a [Bus] that speaks what @socket.io/postgres-adapter 0.5 and
// @socket.io/postgres-emitter speak: a Node.js node takes an Atoll node for one of its own kind.
//
//	pool, err := pgxpool.New(ctx, "postgres://app@127.0.0.1/app")
//	...
//	bus := pgbus.New(pool, nil)
//	defer bus.Close()
//	node, err := cluster.Join(ctx, bus, nil)
//
// A message is a notification on the channel socket.io#/chat of its namespace. What has
// 8000 bytes or more, or binary in it, lies in the table socket_io_attachments for half a minute, and the
// notification names the row. Node.js nodes say in each namespace every 5 seconds that they are there, and so
// does an Atoll node as long as there are some; a question waits for all who were heard in the
// last 10 seconds. Atoll nodes know each other by channels that Node.js nodes do not read, where they also
// repair what was lost among them while a connection was away.
//
// What the official packages get wrong is right here: a message of 8000 bytes is not lost, names of
// channels are quoted, and messages of the emitter, which do not tell their namespace, are for that
// of their channel. The name of a channel may have 63 bytes: Node.js nodes with a longer
// namespace listen where PostgreSQL has cut it, and cannot publish; Atoll nodes publish and listen there,
// so they reach each other and those Node.js nodes.
//
// # Atoll's own format
//
// [NewLog] makes a [Log]: a table to which every message is appended, numbered in the order in
// which it becomes visible. A notification carries what is small, and wakes who is to read
// the table for the rest. After an outage, of whatever, a reader goes on behind the last row
// that it has read: nothing that PostgreSQL took is lost, for as long as it is kept ([LogOptions].Keep).
// A Log also keeps sessions, so with it connections recover on any node of the cluster, when their
// node was killed too. The official format keeps nothing, and cannot do that.
//
// # Connections
//
// A bus makes two connections of its own, by the settings of the pool: one listens, the other
// publishes. They must reach PostgreSQL itself, or a pooler in session mode: through PgBouncer
// in transaction mode LISTEN has no effect. A bus tests that, and fails with [ErrPooler].
// A connection that is silent is tested, and made again when it does not answer; Publish fails at
// once while PostgreSQL is away, and nothing is buffered for later.
//
// An idle bus makes a query every 6 seconds, to test the link. A node on it announces itself each
// cluster.Options.Heartbeat by one query, which is a test as well: with 5 seconds there, that is all an idle
// node costs, and failures are noticed later.
package pgbus
