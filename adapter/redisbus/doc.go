// Package redisbus joins Atoll nodes, Node.js nodes and emitters to one cluster on Redis.
//
// It speaks the format of @socket.io/redis-adapter 8 (classic Redis Pub/Sub) and of
// @socket.io/redis-emitter 5, byte for byte: a Node.js node takes an Atoll node for one
// of its own kind.
//
//	rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:6379"}})
//	...
//	bus := redisbus.New(rdb, nil)
//	defer bus.Close()
//	node, err := cluster.Join(ctx, bus, nil)
//
// # What stands on Redis
//
// For a namespace, with the default prefix:
//
//	socket.io#/chat#              events, in MessagePack, to all or to several rooms
//	socket.io#/chat#lobby#        events to exactly one room
//	socket.io-request#/chat#      everything else that is told or asked
//	socket.io-response#/chat#     answers, where the asker did not say who it is
//	socket.io-response#/chat#ID#  answers to the node with that id
//
// Nothing is stored. Beside that, Atoll nodes announce themselves on socket.io-atoll# and
// socket.io-atoll#goodbye#, which Node.js nodes do not read, and write their id into answers, in a field that Node.js
// nodes ignore. So a missing Atoll node is missing by name, a missing Node.js node by number.
//
// # Limits of the format
//
// An ack of a client, and an answer to a server-side event, is one value for Node.js nodes;
// further values pass between Atoll nodes only. Server-side events are JSON: bytes in
// them take four times their size. A room is a text here and may be a number in Node.js;
// To("7") reaches the room "7" and the room 7.
//
// # When Redis is away
//
// Publish returns an error at once, and nothing is kept for later: at most once. The
// subscriptions heal by themselves as soon as Redis is back ([Bus.Stats] counts how
// often). What was published in between is lost, as it is for Node.js nodes.
//
// Redis lets go of a subscriber that reads too slowly: by default one for which 32 MB wait,
// or 8 MB for a minute (client-output-buffer-limit pubsub). It subscribes again at once, but
// messages are lost. Who sends messages of many megabytes raises that limit.
//
// A Redis Cluster works; each message passes all its nodes. All messages of one prefix
// are published through one node of it, so that they keep their order.
package redisbus
