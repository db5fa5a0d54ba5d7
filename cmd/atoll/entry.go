package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// kinds are the kinds of entries.
var kinds = []string{"emit", "join", "leave", "disconnect", "server", "ask", "answer", "member", "gap"}

// An entry is a line of tail.
type entry struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	What string    `json:"what,omitempty"` // of an ask, an answer, a member
	From string    `json:"from,omitempty"` // id of the node, or "emitter"
	Name string    `json:"name,omitempty"` // of the node
	To   string    `json:"to,omitempty"`   // answer: the node that asked

	Namespace string   `json:"nsp,omitempty"`
	Rooms     []string `json:"rooms,omitempty"`
	Except    []string `json:"except,omitempty"`
	Names     []string `json:"names,omitempty"` // rooms that are joined or left
	Volatile  bool     `json:"volatile,omitempty"`
	Close     bool     `json:"close,omitempty"`

	Event   string          `json:"event,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"` // bytes are placeholders
	Bytes   []int           `json:"bytes,omitempty"`
	Clients int             `json:"clients,omitempty"`

	Request string `json:"request,omitempty"`
	Number  uint64 `json:"number,omitempty"`
	Offset  string `json:"offset,omitempty"`
	First   uint64 `json:"first,omitempty"` // gap
	Last    uint64 `json:"last,omitempty"`
}

// entryOf returns what is to be said of a message, nil for what the nodes say of themselves.
func entryOf(m *cluster.Message) *entry {
	e := &entry{From: m.From, Namespace: m.Namespace, Request: m.Request, Number: m.Number, Offset: m.Offset}
	switch {
	case m.Op != nil && (m.Kind == cluster.Tell || m.Kind == cluster.Ask):
		e.op(m.Op)
	case m.Kind == cluster.Reply && m.Answer != nil:
		e.Kind, e.To = "answer", m.To
		a := m.Answer
		e.Clients = a.Clients
		switch {
		case len(a.Sockets) > 0:
			e.What = number(len(a.Sockets), "socket")
		case len(a.Rooms) > 0:
			e.What = number(len(a.Rooms), "room")
		case a.Data != nil:
			e.Args = jsonOr(a.Data)
		}
		e.sizes(a.Attachments)
	default:
		return nil
	}
	return e
}

func (e *entry) op(op *cluster.Op) {
	switch op.Kind {
	case cluster.Emit:
		e.Kind = "emit"
	case cluster.JoinRooms:
		e.Kind = "join"
	case cluster.LeaveRooms:
		e.Kind = "leave"
	case cluster.Disconnect:
		e.Kind = "disconnect"
	case cluster.ServerEmit:
		e.Kind = "server"
	default:
		e.Kind, e.What = "ask", op.Kind.String()
	}
	if op.Namespace != "" {
		e.Namespace = op.Namespace
	}
	e.Rooms, e.Except, e.Names, e.Close = op.Rooms, op.Except, op.Names, op.Close
	e.Volatile = op.Flags&cluster.Volatile != 0
	if len(op.Data) > 1 {
		args := event.ArgsOf(op.Data[1:len(op.Data)-1], nil)
		var rest event.Args
		if args.DecodeAll(&e.Event, &rest) != nil {
			e.Event = string(args.Raw(0))
		}
		if rest.Len() > 0 {
			e.Args = jsonOr(rest.JSON())
		}
	}
	e.sizes(op.Attachments)
}

func (e *entry) sizes(attachments [][]byte) {
	for _, a := range attachments {
		e.Bytes = append(e.Bytes, len(a))
	}
}

// jsonOr returns raw if it is JSON, and says what it is else.
func jsonOr(raw []byte) json.RawMessage {
	if json.Valid(raw) {
		return raw
	}
	return json.RawMessage(`"(no JSON)"`)
}

func (e *entry) json() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return append(b, '\n')
}

// line is the entry for people, cut to the width of the screen where that is not 0.
func (e *entry) line(width int) []byte {
	who := e.Name
	if who == "" {
		who = e.From
	}
	if who == "" {
		who = "?"
	}
	who = cut(safe(who), 16)
	b := fmt.Sprintf("%s  %-16s  ", e.Time.Format("15:04:05.000"), who)
	switch e.Kind {
	case "member":
		b += map[string]string{"came": "+ came", "left": "- left", "died": "- died (it fell silent)"}[e.What]
	case "gap":
		switch n := e.Last - e.First + 1; {
		case e.First == 0:
			b += "! messages were lost: the log no longer keeps them"
		case n == 1:
			b += fmt.Sprintf("! message %d was lost", e.First)
		default:
			b += fmt.Sprintf("! %d messages were lost: %d to %d", n, e.First, e.Last)
		}
	default:
		b += strings.TrimRight(fmt.Sprintf("%-10s  %s  %s", e.Kind, e.where(), e.text(width)), " ")
	}
	if width > 0 {
		b = cut(b, width)
	}
	return append([]byte(b), '\n')
}

// where says for whom it is.
func (e *entry) where() string {
	s := []string{safe(e.Namespace)}
	for _, r := range e.Rooms {
		s = append(s, safe(r))
	}
	for _, r := range e.Except {
		s = append(s, "!"+safe(r))
	}
	return strings.Join(s, " ")
}

// text says what it is.
func (e *entry) text(width int) string {
	var s []string
	if e.What != "" {
		s = append(s, e.What)
	}
	if e.Event != "" {
		s = append(s, safe(strconv.Quote(e.Event)))
	}
	if len(e.Args) > 0 {
		args := string(e.Args)
		if width > 0 && len(args) > 4*width {
			args = args[:4*width] // what is behind that cannot be seen anyway
		}
		s = append(s, safe(args))
	}
	for _, r := range e.Names {
		s = append(s, safe(r))
	}
	if e.Clients > 0 {
		s = append(s, number(e.Clients, "client"))
	}
	if e.Volatile {
		s = append(s, "(volatile)")
	}
	if e.Close {
		s = append(s, "(and the connection)")
	}
	for _, n := range e.Bytes {
		s = append(s, fmt.Sprintf("(%d bytes)", n))
	}
	return strings.Join(s, " ")
}

// A filter says which entries are printed.
type filter struct {
	nsps, rooms, events, kinds []string
	answers                    bool
}

func (f *filter) passes(e *entry) bool {
	if len(f.kinds) > 0 {
		if !slices.Contains(f.kinds, e.Kind) {
			return false
		}
	} else if e.Kind == "answer" && !f.answers {
		return false
	}
	if e.Kind == "member" || e.Kind == "gap" {
		return len(f.kinds) > 0 || len(f.rooms) == 0 && len(f.events) == 0
	}
	if len(f.nsps) > 0 && !slices.Contains(f.nsps, e.Namespace) {
		return false
	}
	if len(f.events) > 0 && !slices.Contains(f.events, e.Event) {
		return false
	}
	return len(f.rooms) == 0 || slices.ContainsFunc(e.Rooms, func(r string) bool { return slices.Contains(f.rooms, r) })
}
