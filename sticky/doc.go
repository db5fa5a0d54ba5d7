// Package sticky is a load balancer for Socket.IO servers.
//
// A Socket.IO session lives on one node, and each of its requests has to arrive
// there. The [Balancer] decides for each request by the session id in its query,
// not for each connection: a browser, or another proxy, may send the requests of
// many sessions over one connection.
//
//   - A request without an id opens a session. Where [Options.Affinity] knows the client (a cookie, its address, a
//     header), it goes where the client was before. Else it goes to the node that has the
//     fewest for its weight ([LeastConnections], the default), to the next ([RoundRobin]), to any ([Random]), or to one by the hash
//     of the client's address ([Hash]).
//   - A request with an id goes to the node that made it. The ids of Atoll nodes name
//     their node, so this needs no memory and survives a restart of the balancer; which
//     node has which name is learned from the header Atoll-Node of their answers. The
//     ids of other servers are learned from the answer that opens a session.
//   - Everything else (a page, an image) goes to the next node, or to [Options.Fallback].
//
// # When a node dies
//
// A node that refuses a connection is down at once. One that breaks a connection
// off is asked at once whether it lives; breaking off alone proves nothing, since a
// client can provoke it. One that hangs is noticed by the health checks. Then its
// WebSockets are closed, its sessions get what the official server answers to an id
// that it does not know (status 400, code 1), and the clients open a new session,
// on another node.
//
// A request is sent a second time only where that cannot do anything twice: one
// that opens a session and got no answer, and one without a body whose connection
// was never made; and only as long as such requests are few ([Options.RetryShare]), so that
// they cannot double an overload. A node that fails many gets no new sessions for a moment ([Options.Passive]).
//
// No session that lives is ever moved: not when a node returns, nor when nodes, weights or policies change.
//
// # Changes while it runs
//
// [Balancer.SetBackends] and [Balancer.ReplaceBackends] change the nodes, [Options.Discover] finds them in a file or
// by DNS, [Balancer.Drain] keeps new sessions from one, [Balancer.Reconfigure] changes most other options. What is under
// way goes on. [Balancer.Admin] shows all that to people, [Balancer.Metrics] to Prometheus, and [Options.AccessLog] gets each request.
//
// # Serving
//
// [Balancer.Serve] serves a listener by itself, and [Balancer.ServeTLS] does with [Certificates] that are read
// again when they change. HTTP/1.1 and WebSockets cost about what they cost nginx and HAProxy (see
// internal/balancebench); HTTP/2 and the requests for [Options.Fallback] are handed to net/http. [Front] has the limits for clients,
// whose zero values are good for a public port, and the PROXY protocol.
//
//	ln, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", ":3000")
//	…
//	err = lb.Serve(ln) // until lb.Close, which lb.Shutdown ends with
//
// What two programs could read differently is not passed on: a request is refused where it has two lengths or
// hosts, a coding other than chunked, lines that do not end in CR LF, folded headers or the like, and so is such an answer of
// a node. Chunks are framed anew; trailers are left out. What a client sends behind a WebSocket handshake
// that is declined is thrown away.
//
// A [Balancer] is an [http.Handler], too, for embedding. Then the [http.Server] around it owns the limits of what comes before a
// request: set its ReadHeaderTimeout (10 seconds), IdleTimeout (2 minutes) and
// MaxHeaderBytes (64 KiB). Leave its ReadTimeout and WriteTimeout at 0, they would
// end long polls; the balancer has time limits of its own for bodies.
// WebSockets come over HTTP/1.1; HTTP/2 in front serves long polls.
//
// See https://github.com/socketio/socket.io/blob/main/docs/engine.io-protocol/v4-current.md
package sticky
