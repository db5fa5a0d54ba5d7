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
package cluster
