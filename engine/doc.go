// Package engine is an Engine.IO v4 server: sessions over long-polling and
// WebSocket, with upgrade, heartbeat and orderly ends.
//
// A [Server] is an [http.Handler]. For each new session it calls the accept
// function, which returns the [Handler] that the session pushes into; the
// [Conn] is what the handler sends through.
//
// # Order
//
// The engine promises, for one session:
//
//   - Message is called once for each message of the client, in the order in
//     which the client sent them, across an upgrade too, and never twice at a time.
//   - Flush is called after each batch of messages that one read brought. It is
//     the place for code that takes long: Message must not block.
//   - A Flush that takes long, or calls [Conn.Handoff], is relieved: another
//     goroutine goes on reading, so Message and Flush may be called again before
//     that Flush has returned. Message is still never called twice at a time.
//   - Packets leave in the order of the calls of Send that queued them, and the
//     packets of one call leave together, with nothing between them.
//   - Closed is called once, after the last Message has returned; no Message and
//     no Flush begins after it. A Flush that is running then runs on.
//
// With [Options].Hold, what a polling client sends first may be handed up a
// moment later, in the same order. Until then the session can be given to another
// server ([Server.Release], [Server.Adopt]): its handler here has heard nothing,
// the one there hears everything.
//
// It does not promise that what was sent arrives: a packet that was written to a
// connection which breaks is lost, as with the official server.
//
// What the handler sends while Message and Flush run leaves in one write when
// Flush returns, or as soon as the Flush is relieved.
//
// See https://socket.io/docs/v4/engine-io-protocol/ for the protocol.
package engine
