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
// socket.io-atoll#goodbye#, and repair what was lost between them on socket.io-atoll#node#ID#, which
// Node.js nodes do not read. They number what they say in each namespace, and write their id into
// answers, in fields that Node.js nodes ignore. So a missing Atoll node is missing by name, a missing
// Node.js node by number; and what Atoll nodes say to each other arrives, or is reported as lost.
//
// # Without Node.js nodes
//
// [NewNative] speaks Atoll's own format over the same Redis: it can send what is for one room only
// to the nodes where the room has members (cluster.Options.RouteRooms), and authenticate all
// messages (cluster.Options.Key).
//
// # The options of @socket.io/redis-adapter
//
//	key                               Options.Prefix
//	publishOnSpecificResponseChannel  the opposite of Options.SharedResponses
//	requestsTimeout                   cluster.Options.AskTimeout, also 5 seconds
//	parser                            MessagePack always, as is its default
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
// Publish returns an error at once, and the Bus keeps nothing for later. The
// subscriptions heal by themselves as soon as Redis is back ([Bus.Stats] counts how
// often). What was published in between is lost for Node.js nodes; Atoll nodes send it to each other again, as
// far as they keep it (cluster.Options.Resend).
//
// Redis lets go of a subscriber that reads too slowly: by default one for which 32 MB wait,
// or 8 MB for a minute (client-output-buffer-limit pubsub). It subscribes again at once, but
// messages are lost. Who sends messages of many megabytes raises that limit.
//
// # What a Redis user must be allowed
//
// With "allchannels", or "&socket.io-*" and for each namespace a pattern like "&socket.io#/chat#*", literally:
//
//	ACL SETUSER atoll on >password resetkeys resetchannels -@all &socket.io-* &socket.io#/#* +hello +ping
//	    +publish +subscribe +unsubscribe +psubscribe +punsubscribe +pubsub|numsub
//
// # Several servers
//
// Sentinel works with rueidis' option Sentinel: a few seconds after the master's death all goes on, and what was
// told meanwhile arrives then.
//
// A Redis Cluster works; each message passes all its nodes. All messages of one prefix
// are published through one node of it, so that they keep their order.
package redisbus
