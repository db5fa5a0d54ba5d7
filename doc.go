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
// # Goroutines
//
// Handlers run on the goroutine that reads from their session, which costs no wake-up;
// when one waits or takes long, another goroutine goes on reading. All goroutines end with
// Shutdown or Close, which wait for them.
package atoll
