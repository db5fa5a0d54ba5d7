// Package official translates between a cluster.Message and the format that the newer
// adapters of Socket.IO share: those for Redis sharded Pub/Sub, Redis Streams, Postgres,
// MongoDB and Node.js's cluster module (all that build on ClusterAdapter of the package
// socket.io-adapter). A message is the object {type, data, uid, nsp} in JSON or in MessagePack:
//
//	type   a Kind, 1 to 13
//	data   what is told, asked or answered; absent in heartbeats
//	uid    who sends it: an id of Node.js's making, or the id of an Atoll node as it stands
//	nsp    the namespace; emitters for Postgres leave it out
//	atoll  "LIFE.NUMBER", both hexadecimal: where in its sender's sequence it stands; Atoll nodes only
//
// What differs between the adapters is which channel carries a message, and when it is written in
// JSON and when in MessagePack: that is the adapter's affair. Streams write type, uid, nsp
// and data as fields of an entry: for them there are HeaderOf, AppendDataJSON and DecodeData.
//
// # What the format does not know
//
// It has neither counts nor lists of rooms. Both are asked as FetchSockets, with a request id that
// ends in #count or #rooms: Node.js nodes describe their sockets, which are counted here; Atoll
// nodes add count or rooms to an answer without sockets. An ack of a client and an answer to a
// server-side event are one value; further ones stand in more, for Atoll nodes.
//
// A room that is the text of an integer may be a number in Node.js. Where rooms select sockets it is
// written as both; where it is joined, as text.
//
// # Numbers and bytes
//
// Integers keep all digits up to 64 bits and are floats beyond (notepack.io, which the sharded
// adapter uses, writes other numbers there). @msgpack/msgpack (streams, Postgres) writes undefined
// as nil, notepack.io leaves it out; here nothing is undefined. Both read both.
//
// Everything may be called by any number of goroutines at once. Nothing panics on any input,
// and what is allocated is in proportion to the length of the input.
package official
