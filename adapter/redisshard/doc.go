// Package redisshard joins Atoll nodes and Node.js nodes to one cluster on the sharded Pub/Sub of
// Redis 7 and later, alone, under Sentinel or as a Redis Cluster, where each message passes only the
// shard of its channel.
//
// It speaks the format of createShardedAdapter of @socket.io/redis-adapter 8: a Node.js node takes an Atoll
// node for one of its own kind. All nodes have the same channelPrefix and the same subscriptionMode.
//
//	rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:6379"}})
//	...
//	bus := redisshard.New(rdb, nil)
//	defer bus.Close()
//	node, err := cluster.Join(ctx, bus, nil)
//
// # What stands on Redis
//
// For a namespace, with the default prefix:
//
//	socket.io#/chat#         what is told and asked, to all nodes
//	socket.io#/chat#ID#      answers to the node with that id
//	socket.io#/chat#lobby#   events to exactly one room, in the dynamic modes
//
// Nothing is stored. A message is JSON, or MessagePack where it has binary in it. Beside that, Atoll
// nodes announce themselves on socket.io-atoll# and socket.io-atoll#goodbye#, and repair what was lost
// between them on socket.io-atoll#node#ID#, which Node.js nodes do not read; and they number what they
// say, in a field that Node.js nodes ignore. So a missing Atoll node is missing by name, a
// missing Node.js node by number; and what Atoll nodes say to each other arrives, or is reported as
// lost. Two things the format does not know, counts and lists of rooms, are
// asked as fetchSockets: Atoll nodes answer with the figure, Node.js nodes describe their sockets.
//
// # Modes
//
// [Dynamic] (the default, as in Node.js) gives each room a channel, to which only nodes with members
// subscribe. Rooms of 20 characters, which look like the ids of sockets, have none; in
// [DynamicPrivate] they have one too. In [Static] all goes to the channel of the namespace. A node's
// first Join of a room waits until Redis has confirmed the subscription.
//
// # Order
//
// Each channel keeps the order of each publisher, also when a subscription moves to another server. In Static all that is
// told and asked in a namespace is one channel: what one goroutine says arrives in its order.
//
// Between two channels nothing is promised, so in the dynamic modes an event to one room may overtake one to all,
// or to another room. In a Redis Cluster the channels lie on different servers; where Redis is alone, it is
// the receiver that lets a channel wait where a message of it is missing or late, and not the others.
// An answer may overtake an event in all modes.
//
// # When Redis is away
//
// Publish returns an error at once where Redis refuses connections, or after Options.PublishTimeout,
// and the Bus keeps nothing for later. The subscriptions heal by themselves: after a lost connection,
// after a failover, and when slots move to another server ([Bus.Stats] counts how often). What was
// published in between is lost for Node.js nodes; Atoll nodes send it to each other again,
// as far as they keep it (cluster.Options.Resend).
//
// A Bus has one connection for its subscriptions to each server that serves slots, one where Redis
// is alone, and shares the client's for publishing. One Bus is for one node: Node.js nodes count subscriptions to know how
// many nodes there are.
//
// # What a user of Redis must be allowed
//
// The commands HELLO, PING, SPUBLISH, SSUBSCRIBE, SUNSUBSCRIBE and PUBSUB SHARDNUMSUB, in a Redis Cluster also CLUSTER SLOTS
// and CLUSTER SHARDS (and EXISTS, without which it takes longer to find a server that was added); and the
// channels that begin with socket.io-atoll# and, for each namespace, with socket.io#/chat#.
//
// # Limits
//
// An observer (cluster.Options.Observer) asks, and sees no operations: sharded Pub/Sub has no patterns, and
// Node.js nodes would wait for the answers of who subscribes to the channel of a namespace.
// A room whose name is the id of a node shares a channel with the answers to that node; Node.js nodes do
// not take events from it.
package redisshard
