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
// # A node that is killed
//
// Its clients are to begin anew within two seconds, and no client of a node that lives. The cluster declares it dead after its
// DeadAfter only, three seconds; until then, for each way in which another node may know it:
//
//   - It has a link. The link ends with its process, and what is under way is answered by Options.Gone at once. Who comes next has it
//     dialled again and greeted (connect). Where it takes no connections and does not answer within half a second, or after a twentieth
//     the bus can count and says that nobody listens for it, it is silent: nobody waits for it until it has answered a greeting, which is sent again with longer and longer pauses.
//   - It was never met, or its link cannot be made again for another reason. It is greeted for two seconds, and for half of one where the bus
//     can count and says twice that nobody listens for it ([cluster.Node.Listens]).
//   - It is asked over the carrier. When it has missed an announcement, the medium is asked whether anybody listens for it; where it says twice
//     that nobody does, what is under way ends. So that is 1.5 seconds after its last word, and a node that is only slow
//     is never taken for dead. Redis and NATS can tell ([cluster.Counter], [cluster.Attender]), also an embedded NATS; where
//     the medium cannot (PostgreSQL; memory), and where the machine is gone with the process, what is under way ends when the
//     cluster declares the node dead.
//
// A node that hangs is not killed. What is under way on its line ends when it has left a ping unanswered.
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
