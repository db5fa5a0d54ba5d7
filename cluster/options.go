package cluster

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Options are a node's settings. A nil *Options means all defaults.
type Options struct {
	// ID tells this node from all others: 1 to 64 letters, digits, "-" and "_".
	// If empty, a random one. Who chooses ids must not give one to two living nodes.
	ID string

	// Name is for people. If empty, host name, program and process id.
	Name string

	// Heartbeat is the pause between two announcements. If zero, 1 second.
	// All nodes of a cluster should have the same.
	Heartbeat time.Duration

	// DeadAfter is how long a member may be silent. If zero, three heartbeats.
	// It must be at least two heartbeats.
	DeadAfter time.Duration

	// Settle is how long Join may listen for the nodes that are there, so that Peers is
	// right from the first moment. If zero, 100 milliseconds. If negative, it does not wait.
	Settle time.Duration

	// AskTimeout is how long a question waits whose context has no deadline and whose
	// Op has no Timeout. If zero, 5 seconds.
	AskTimeout time.Duration

	// MaxQueue is how many bytes of operations of other nodes may wait to be performed;
	// what comes beyond is dropped and counted. If zero, 64 MiB.
	// The answers to one question that wait to be read have the same limit.
	MaxQueue int64

	// RouteRooms has operations that are for one room go only to the nodes where it has
	// members, where the dialect can (see Router). It makes a node's first Join of a room wait for the
	// medium. It works as soon as all nodes of the cluster have it set.
	RouteRooms bool

	// Key, where set, authenticates all messages of the cluster: each carries a code made with
	// it, and what carries none or a wrong one is dropped and counted. All nodes and emitters have
	// the same, of at least 16 bytes. Only the native format can carry it.
	Key []byte

	// Observer makes a node that watches and asks but has no sockets: it is no member, it does not
	// announce itself, and nobody waits for it. It knows the members, and Ask works (it opens
	// the namespace). A Receiver that is attached gets all operations, those that ask
	// too, with a nil answer: of all namespaces where the dialect can (see Observable), else
	// of those that are opened. While one is attached and RouteRooms is not set, Native's
	// nodes route nothing, so that it sees everything.
	Observer bool

	// Resend is how many bytes of what this node told and asked it keeps, to send it again to nodes
	// that it did not reach and to all when the bus was away. If zero, 16 MiB. If negative, none.
	Resend int64

	// LogTail is how many bytes of what came out of a Log last stay in memory for Since, on each topic, with 256
	// bytes more for each message, and for five minutes after the last call. If zero, 32 MiB. If negative, none: then each Since reads
	// the log, as it does for what is more than that; four may at once.
	LogTail int64

	// RepairWait is how long operations may wait for one before them that did not come, while the bus
	// works and nothing else of what is missing comes; then it is given up and reported
	// (OnGap). If zero, two heartbeats, and 2 seconds at least. If negative, nothing is waited or asked
	// for: operations are performed as they come, and what does not come is reported after a heartbeat.
	RepairWait time.Duration

	// Logger is told what an operator should know. If nil, slog.Default().
	Logger *slog.Logger

	// OnMember, where set, is called for each node that comes (up) or goes, on the
	// node's loop: in order with the operations that arrive, one call at a time. It must not block.
	OnMember func(m Member, up bool)

	// OnLeave, where set, is called right before OnMember for each node that goes. died
	// says that it fell silent, or was started again, without a goodbye.
	OnLeave func(m Member, died bool)

	// OnMessage, where set, is called on the node's loop for each message that arrives: for an operation
	// right before it is performed, for all others when they were taken in. It must neither block
	// nor change m. It is for those who watch a cluster.
	OnMessage func(m *Message)

	// OnGap, where set, is called on the node's loop, in the place of messages first to last of the
	// node with the id from, when they are lost: they did not come, and could not be had again
	// (see RepairWait). None of them is performed later. It must not block.
	// Where the bus is a Log that no longer kept what the node had yet to read, from is empty
	// and both numbers are 0.
	OnGap func(from string, first, last uint64)
}

const (
	defaultHeartbeat  = time.Second
	defaultSettle     = 100 * time.Millisecond
	defaultAskTimeout = 5 * time.Second
	defaultMaxQueue   = 64 << 20
	defaultResend     = 16 << 20
	defaultLogTail    = 32 << 20
	minRepairWait     = 2 * time.Second
	minKey            = 16
	maxID             = 64
)

// withDefaults returns a copy of o in which every field has its value.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if !validID(c.ID) {
		return c, fmt.Errorf("cluster: Options.ID is %q: it must be 1 to %d letters, digits, - and _", c.ID, maxID)
	}
	if c.Name == "" {
		host, _ := os.Hostname()
		c.Name = fmt.Sprintf("%s/%s/%d", host, filepath.Base(os.Args[0]), os.Getpid())
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = defaultHeartbeat
	}
	if c.DeadAfter <= 0 {
		c.DeadAfter = 3 * c.Heartbeat
	}
	if c.DeadAfter < 2*c.Heartbeat {
		return c, fmt.Errorf("cluster: Options.DeadAfter is %v: with a Heartbeat of %v it must be at least %v, or living nodes are declared dead",
			c.DeadAfter, c.Heartbeat, 2*c.Heartbeat)
	}
	if c.Settle == 0 {
		c.Settle = defaultSettle
	}
	if c.AskTimeout <= 0 {
		c.AskTimeout = defaultAskTimeout
	}
	if c.Resend == 0 {
		c.Resend = defaultResend
	}
	if c.LogTail == 0 {
		c.LogTail = defaultLogTail
	}
	if c.RepairWait == 0 {
		c.RepairWait = max(2*c.Heartbeat, minRepairWait)
	}
	if len(c.Key) > 0 && len(c.Key) < minKey {
		return c, fmt.Errorf("cluster: Options.Key has %d bytes: it must have at least %d", len(c.Key), minKey)
	}
	if c.MaxQueue <= 0 {
		c.MaxQueue = defaultMaxQueue
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// validID reports whether id can name a node or a cluster: it stands in topics.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
