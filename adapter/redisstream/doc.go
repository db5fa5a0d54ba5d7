// Package redisstream joins Atoll nodes, Node.js nodes and emitters to one cluster on Redis Streams.
//
// It speaks the format of @socket.io/redis-streams-adapter 0.3 and of
// @socket.io/redis-streams-emitter 0.1: a Node.js node takes an Atoll node for one of its own
// kind. It keeps what was sent and the sessions of clients, so a client that comes
// back, to whichever node, gets what it missed (connection state recovery).
//
//	rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:6379"}})
//	...
//	bus := redisstream.New(rdb, nil)
//	defer bus.Close()
//	node, err := cluster.Join(ctx, bus, nil)
//
// # What stands on Redis
//
// With the default options:
//
//	stream  socket.io              events, joins, leaves, disconnects, server-side events: fields uid, nsp, type, data
//	channel socket.io#/chat#       questions in the namespace /chat, in MessagePack
//	channel socket.io#/chat#ID#    answers to the node with that id
//	key     sio:session:PID        the session of a client, base64 of MessagePack
//
// All namespaces share the stream, unless StreamCount is over 1. Atoll nodes add fields that Node.js
// nodes do not read: atoll (LIFE.NUMBER, hexadecimal) numbers the messages of a sender, and
// after, in messages on channels, says how far the sender had written the stream. Who receives such a message
// waits until it has read the stream that far, for a second at most: so among Atoll nodes a question does not
// overtake what the same goroutine told before. What is told behind a question whose answers were not waited for
// may overtake the question. Beside that, Atoll nodes talk on channels that begin with socket.io-atoll#.
//
// A server-side event that nobody answers goes by the stream, as the official emitter sends it, so that none
// is lost; Node.js nodes read it there, though they publish theirs on the channel.
//
// Of what nodes with version 0.2 of the adapter write, everything in the stream is read, and
// their questions are answered there; they do not hear ours.
//
// # When Redis is away
//
// Publish and Append return an error at once. Readers go on behind the last entry that they saw as soon as
// Redis is back, so nothing that Redis took is lost, as far as Redis itself keeps it (appendonly).
// A reader that was away for longer than the stream reaches back (MaxLen) says so; see [cluster.Log].
// Questions, answers and announcements are on channels, at most once.
//
// # What else to know
//
// Redis 6.2 or newer; before 7.0 a stream does not count its entries, and where some were trimmed a place right
// before the first that is kept counts as lost too. A user with few rights (ACL) needs TIME, TYPE, XADD, XREAD,
// XRANGE, XINFO, GET, SET, GETDEL, DEL, EVAL, EVALSHA, SCRIPT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PUBSUB and PING.
//
// Node.js nodes write a namespace whose hash is negative, with StreamCount over 1, to a stream that none of them
// reads (NAME--2). An Atoll node writes such a namespace to one that all read, and reads that one too.
//
// A room is a text here, also where it was a number in the session of a Node.js node.
package redisstream
