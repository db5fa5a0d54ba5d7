// Package cluster makes one server of many nodes.
//
// A [Node] is one process in the cluster. It knows the others ([Node.Peers]), tells them
// operations ([Node.Tell]) and asks them questions ([Node.Ask]). What carries its messages
// is a [Bus], how they are written is a [Dialect]; everything else (who is alive, which
// answers are missing, what was lost) stands here, once, for every medium.
//
// # Promises
//
//   - Order: what one goroutine tells and asks reaches every other node in the order of
//     its calls, if the Bus keeps the order of one publisher's messages. The receiver
//     performs operations one at a time in the order of their arrival. Between two
//     goroutines or two nodes nothing is promised.
//   - Delivery: an operation reaches a node at most once. An error of Tell says that it
//     may have reached nobody. What was lost without an error (a medium may drop what it
//     had accepted) is noticed by the receivers, because messages are numbered: it is
//     counted in [Stats] and reported to [Options].OnGap. Nothing is sent again.
//     Only [Native] has numbers.
//   - Questions end: by the last expected answer, by the deadline, or when the bus is
//     away; never later than the deadline because of another node's fault. What came
//     before is never thrown away, and who is missing is named ([AbsentError]).
//   - Input: what arrives is not trusted to be well formed. Malformed messages are
//     counted, logged at most once a minute, and change nothing.
//   - Memory: operations that wait to be performed are limited by [Options].MaxQueue
//     bytes, the answers that wait to be sent and to be read likewise.
//
// # Membership
//
// A node announces itself every [Options].Heartbeat, and a node that was not heard of for
// [Options].DeadAfter is a member no more, until it is heard again. A dead node is waited
// for no more. A frozen process is therefore named as absent by every question that runs
// into its deadline or sees it die, for DeadAfter at most; after that it costs nothing.
//
// A goodbye tells a death from a departure ([Options].OnLeave). Announcements say which version of the native
// format a node speaks and whether it routes. Whoever can publish can forge them: no more than
// 4,096 members are believed.
//
// # Log
//
// Where the Bus is a [Log], a node follows the topics that are kept: nothing is missed while the bus
// or the connection is away, and every node performs what is there in the order of the log, whoever
// sent it. [Node.Keep] has the sender itself perform its operation at that place. What the log has
// dropped before a node could read it is lost to that node: it is counted exactly, and not asked for,
// because it would come out of its place. [Node.Since] reads what was kept, for those who come back.
//
// # Rooms
//
// Where the format is a [Router] and all nodes have [Options].RouteRooms, an Emit for one room goes to the
// nodes that have said [Node.Enter], and with Native one for a socket's own room to its owner alone. So what a
// node receives grows with its own members, not with the cluster: the others bring it their announcements.
// Everything else (other operations, questions, emits for several rooms, what is kept by
// Keep) goes to all, and so does for some seconds what is for a room that the sender has just told others to join.
//
// # Observers
//
// A node with [Options].Observer hears and asks, and is no member: nobody waits for it.
package cluster
