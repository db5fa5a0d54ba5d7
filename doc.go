// Package atoll is a Socket.IO server for many nodes.
//
// A Server is an http.Handler. Handlers are set on its namespaces, and run for each
// client that connects to them:
//
//	srv := atoll.NewServer(nil)
//	room := srv.Of("/chat")
//	room.OnConnect(func(ctx context.Context, s *atoll.Socket) error {
//		s.Join("lobby")
//		return nil
//	})
//	atoll.On(room, "said", func(ctx context.Context, s *atoll.Socket, text string) error {
//		return s.To("lobby").Emit(ctx, "said", text)
//	})
//	http.Handle("/socket.io/", srv)
//
// Events are best declared once, with their types, as package event shows.
//
// With Options.Cluster, many servers are one: a Target such as room.To("lobby") stands for
// sockets on all nodes, whoever emits.
//
// # Order
//
//   - What one goroutine emits, joins, leaves and disconnects reaches each socket of this
//     node in the order of its calls, whether addressed to the socket, to rooms or to all.
//     What it tells other nodes is performed there in that order too, on media that keep
//     the order of one publisher (all that come with Atoll do).
//   - The events of one client to one namespace are handled one at a time, in the order in
//     which the client sent them, between its OnConnect and its OnDisconnect. Acks do not
//     wait behind handlers, so a handler may ask its own client and wait.
//   - Between two goroutines, two clients, or two namespaces nothing is promised.
//
// # Delivery
//
// An event is delivered at most once. It is lost where the connection breaks before it has
// arrived, where it was volatile and would have had to wait, where a client is cut off for
// being too slow, and where the cluster's medium loses it. Emit returns an error for what
// it could not give to the medium; the engine's and the cluster's Stats count the rest. An
// ack is the proof that an event arrived.
//
// # Recovery
//
// With Options.Recovery a client that was cut off and comes back within
// recovery.Options.MaxDisconnection is recovered: it has its id, rooms and data again (Socket.Recovered),
// and gets what it has missed, in order and each event once, before anything new. OnConnect runs
// again, and so do the middlewares unless they are to be skipped.
//
//   - It works on every node, whatever became of the one that the client was on, where the
//     cluster's bus keeps messages (cluster.Log) and sessions (recovery.Sessions). On other buses, and
//     without a cluster, it works where the client comes back to the same node, from memory.
//   - It is for what Target.Emit and Socket.Emit send: not for what is volatile, or Local, or wants
//     an ack. All nodes perform these events in one order, that of the log; Emit waits for the log.
//   - Each of these events has its place in the log as one argument more, behind the others, as with the
//     official server. An event without a place that ends in a string has null there instead.
//   - What the medium could not take, so that Emit returned an error, this node's sockets get at once and without a
//     place; the log has it when the medium is back. Who was cut off in between gets it twice.
//   - A client that left, that was sent away, that is too late, or that has missed more than is
//     still kept, is connected anew.
//   - What a socket is sent by its id reaches whoever else is in the room of that name, too.
//
// # Goroutines
//
// Handlers run on the goroutine that reads from their session, which costs no wake-up;
// when one waits or takes long, another goroutine goes on reading. All goroutines end with
// Shutdown or Close, which wait for them.
package atoll
