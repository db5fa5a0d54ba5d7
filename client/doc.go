// Package client is a Socket.IO client, protocol version 5 over Engine.IO version 4,
// for programs and for tests: long-polling, WebSocket and the upgrade between them,
// several namespaces over one connection, acks in both directions, binary,
// reconnection.
//
//	sock, err := client.New("http://localhost:3000/chat", nil)
//	if err != nil {
//		return err
//	}
//	defer sock.Close()
//	client.On(sock, chat.Said, func(ctx context.Context, m chat.Message) error { ... })
//	if err := sock.Connect(ctx); err != nil {
//		return err
//	}
//	err = chat.Said.Emit(ctx, sock, chat.Message{Text: "hello"})
//
// Handlers that are set before Connect miss nothing. Dial is New and Connect in one
// step, for programs that only send and ask.
//
// # Order
//
// What one goroutine emits arrives in the order of its calls, what was emitted
// while the client was away too. Handlers, OnConnect and OnDisconnect among them, run one
// at a time for each Socket, in the order in which things happened. Acks do not wait
// behind handlers, so a handler may Ask. Between two namespaces nothing is promised.
//
// # Delivery
//
// An event is delivered at most once. It is lost where the connection breaks before
// it has arrived. What is emitted while there is no connection waits for the next one, as
// with the official client, in bounded memory.
package client
