// Package forward passes requests on to the node that can answer them.
//
// A session's id names the node that owns it. A node that gets a request for another's session has [Peers.Forward] answer it as
// the owner does: over a link, a connection that the two keep for this, or over the cluster's carrier where they
// cannot reach each other. A WebSocket is passed through.
//
// # Links
//
// A link is made when it is first needed, by who needs it: a request to the other node's Socket.IO URL that changes the protocol to
// atoll-link/1. It carries requests one way and answers the other; two nodes that need each other have two. The
// URL and a secret are asked for over the cluster ([cluster.Node.Send]); who cannot prove that it knows the secret gets
// status 403. What comes over a link is treated as a request of a client and nothing more.
//
// While there is no link, the same frames go over the cluster's carrier, numbered, so that it is noticed when one is lost.
//
// # Promises
//
//   - A request is sent once. When the way breaks or the owner dies before it has answered, Options.Gone answers at once, and
//     the owner sees the request's context end, as if its client had gone.
//   - Order: the frames of one request or stream keep their order. Between two requests nothing is promised; who sends the
//     second when the first is answered has them in order.
//   - Bounds: a body has 256 KiB on the way in each direction, a line 64 MiB unread and 16,384 requests; a frame has
//     about 1.2 MB at most. A slow client slows down its own stream only.
package forward
