// Package cluster makes one server of many nodes.
//
// A [Node] is one process in the cluster. It knows the others ([Node.Peers]), tells them
// operations ([Node.Tell]) and asks them questions ([Node.Ask]). What carries its messages
// is a [Bus], how they are written is a [Dialect]; everything else (who is alive, which
// answers are missing, what was lost) stands here, once, for every medium.
//
// # Promises
//
//   - Order: what one goroutine tells and asks is performed on every other node in the order of its calls,
//     whatever the bus does (it may lose, repeat, delay and mix up messages), as far as it is one
//     lane (below). A node performs operations one at a time. Between two goroutines or
//     two nodes nothing is promised.
//   - Delivery: an operation is performed on a node at most once. The messages of a sender are
//     numbered. A receiver that misses one holds what comes behind it and asks the sender, who says
//     it again from what it keeps ([Options].Resend). What does not come for
//     [Options].RepairWait while the bus works, or is no longer kept, is given up: it is counted ([Stats].Gaps)
//     and reported to [Options].OnGap, in its place among the operations. Each number is either performed or
//     reported, once: delivered + lost = sent. One that comes after it was reported is dropped.
//   - Outages: a Tell while the bus is away returns an error at once. If it wraps [ErrDelayed] the
//     operation is kept, and is published in its place when the bus is back. While the bus is
//     away nothing is given up.
//   - Questions end: by the last expected answer, by the deadline, or when the bus is
//     away; never later than the deadline because of another node's fault. What came
//     before is never thrown away, and who is missing is named ([AbsentError]).
//   - Input: what arrives is not trusted to be well formed. Malformed messages are
//     counted, logged at most once a minute, and change nothing.
//     Where the nodes have a [Options].Key, what was not made with it is dropped and counted. (A message
//     that was recorded can be played again; the numbers keep operations from being performed twice.)
//   - Memory: operations that wait to be performed are limited by [Options].MaxQueue
//     bytes, those that are held likewise, and the answers that wait to be sent and to be
//     read. What finds no room is asked for again when there is some, for RepairWait.
//
// # Lanes
//
// Numbers count from 1 without holes, for each sender, each of its lives and each lane. In [Native] all that goes
// to all is one lane; what is routed to a room is the lane of the room's topic, and what goes to one node
// alone (a socket's own room, where rooms are routed) is that node's. A [Laner] has the lanes
// that its format has. Across two lanes of one sender the order is that of the medium: kept where one
// connection carries both in order and nothing is lost, otherwise not. A program whose
// order must hold under faults, between what is for one room and what is for all, leaves RouteRooms unset.
//
// The account of a lane begins for a receiver with what it hears first of it: the sender's announcement, which
// it has when the sender is in [Node.Peers], or a message. What was sent before, it does not miss. On the lane of
// a room that is the first message after Enter, or the first of the lane where that was sent half a second and more
// after Enter and something else of the lane comes within a minute; how far such a lane is, its sender tells on it
// a heartbeat after its last message. At its end: what a sender said last before it was killed, and nobody
// received, nobody can report.
//
// Who cannot be asked: a [Publisher] hears nothing, so what is lost of it is reported after a quarter of
// RepairWait. A dialect that is no Laner and not Native has no numbers: what it loses nobody notices.
// On a [Log] nothing is held or sent again, because the log has its own order; a sender is asked only whether what is
// missing is on its way, and while it says so nothing is given up. A node whose Append failed puts what
// it tells next behind that, and asks when that is there, so that the order of each goroutine is kept there too.
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
// # One node
//
// [Node.Send] takes bytes to one member and to nobody else, whose [Node.Direct] gets them: for what is between two nodes, and
// keeps its own account of what is lost. It is neither numbered nor repaired. Who follows the members has [Node.Changed].
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
