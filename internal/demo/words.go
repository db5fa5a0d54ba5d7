package demo

import (
	"time"

	"github.com/atollhq/atoll/event"
)

// What the chat says, between browsers, nodes and the parent.
const (
	say      event.Request[Line, verdict] = "say"      // a browser to its node
	rename   event.Name[string]           = "rename"   // a browser to its node
	typing   event.Name[person]           = "typing"   // both ways; a browser sends no argument
	catchUp  event.Name[[]Message]        = "history"  // both ways; a browser sends no argument
	welcome  event.Name[greeting]         = "welcome"  // a node to a browser, first on each connection
	said     event.Name[Message]          = "said"     // a node to all browsers
	remember event.Name[Message]          = "remember" // a node to all nodes and the parent

	memories event.Request[event.None, []Message] = "memories" // a new node to all nodes

	report event.Name[Report] = "report" // a node to the parent
	state  event.Name[view]   = "state"  // the parent to browsers
	hops   event.Name[[]hop]  = "hops"   // the parent to browsers
)

// observed is the namespace in which nodes report, and browsers look on.
const observed = "/cluster"

// A Line is what a browser wants to say.
type Line struct {
	Seq  uint64 `json:"seq"` // 1, 2, 3 … for each tab
	Name string `json:"name"`
	Text string `json:"text"`
}

// A Message is a line with where it came from. Tab and Seq name it: a browser that is not
// sure whether its line was passed on sends it again, and whoever has it already drops it.
type Message struct {
	Tab  string `json:"tab"`
	Seq  uint64 `json:"seq"`
	Name string `json:"name"`
	Text string `json:"text"`
	Node string `json:"node"`
	At   int64  `json:"at"` // Unix milliseconds, by the node's clock
}

type verdict struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
}

// A person is who sits in front of a tab. It is the auth payload of a browser.
type person struct {
	Tab  string `json:"tab"`
	Name string `json:"name"`
	Back bool   `json:"back,omitempty"` // it was connected before
}

type greeting struct {
	Node    string    `json:"node"`
	History []Message `json:"history"`
}

// A Report is what a node tells about itself.
type Report struct {
	Name      string   `json:"name"`
	PID       int      `json:"pid"`
	Heap      uint64   `json:"heap"`      // bytes
	Delivered uint64   `json:"delivered"` // messages to browsers since it started
	Clients   []Client `json:"clients"`
}

// A Client is a browser tab as its node sees it.
type Client struct {
	Tab       string `json:"tab"`
	Name      string `json:"name"`
	Transport string `json:"transport"`
}

// A view is the whole picture at one moment.
type view struct {
	Uptime    int64      `json:"uptime"` // milliseconds
	URL       string     `json:"url"`
	Bus       string     `json:"bus"`
	Said      uint64     `json:"said"`
	Delivered uint64     `json:"delivered"`
	Moved     uint64     `json:"moved"`
	Nodes     []nodeView `json:"nodes"`
}

type nodeView struct {
	Name    string   `json:"name"`
	State   State    `json:"state"`
	PID     int      `json:"pid"`
	Uptime  int64    `json:"uptime"` // milliseconds
	Heap    uint64   `json:"heap"`   // bytes
	Exit    string   `json:"exit"`
	Clients []Client `json:"clients"`
}

// A hop is a message on its way, as the picture shows it.
type hop struct {
	Tab  string `json:"tab"`
	Node string `json:"node"`
}

const (
	maxTab    = 32  // bytes
	maxName   = 24  // characters
	maxText   = 500 // characters
	maxNode   = 200 // clients in a report
	remembers = 500 // messages in the memory of a node
	shown     = 50  // of them, those that a newcomer gets
	recently  = 10 * time.Second
)
