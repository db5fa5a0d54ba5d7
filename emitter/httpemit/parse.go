package httpemit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/jsonx/scan"
	"github.com/atollhq/atoll/protocol"
)

// An item is one operation of a request, or what is wrong with it.
type item struct {
	wire
	args event.Args
	err  error
}

// wire is how an operation is written.
type wire struct {
	Namespace string `json:"nsp"`
	Rooms     names  `json:"rooms"`
	Except    names  `json:"except"`

	Event    *string         `json:"event"`
	Args     json.RawMessage `json:"args"`
	Ask      bool            `json:"ask"`
	Server   bool            `json:"server"`
	Volatile bool            `json:"volatile"`
	Compress *bool           `json:"compress"`

	Join       names  `json:"join"`
	Leave      names  `json:"leave"`
	Disconnect bool   `json:"disconnect"`
	Close      bool   `json:"close"`
	Query      string `json:"query"`

	TimeoutMs *int64 `json:"timeoutMs"`
}

// names are rooms: an array of texts, or one text.
type names []string

func (n *names) UnmarshalJSON(b []byte) error {
	if string(b) == "null" { // what some languages make of an empty list must not mean everybody
		return errors.New("null names no rooms: leave the field out where all are meant")
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		var one string
		if json.Unmarshal(b, &one) != nil {
			return errors.New("rooms are an array of texts, or one text")
		}
		many = []string{one}
	}
	if len(many) == 0 {
		return errors.New("an empty array of rooms names nobody: leave the field out where all are meant")
	}
	for _, r := range many {
		if r == "" {
			return errors.New("a room has an empty name")
		}
	}
	*n = many
	return nil
}

// parse reads the operations of a request. An operation that is wrong is an item with its error; the error that
// parse returns is one of the whole.
func parse(body []byte, lines bool, limit int) (items []item, batch bool, err error) {
	raws, batch, err := split(body, lines, limit)
	if err != nil {
		return nil, false, err
	}
	items = make([]item, len(raws))
	for i, raw := range raws {
		items[i].err = items[i].read(raw)
	}
	return items, batch, nil
}

var errEmpty = errors.New("there is no operation in the request")

// split finds the operations of a request.
func split(body []byte, lines bool, limit int) (raws [][]byte, batch bool, err error) {
	tooMany := fmt.Errorf("a request may have %d operations", limit)
	if lines {
		for line := range bytes.Lines(body) {
			if line = scan.Trim(line); len(line) == 0 {
				continue
			}
			if len(raws) == limit {
				return nil, false, tooMany
			}
			raws = append(raws, line)
		}
		if len(raws) == 0 {
			return nil, false, errEmpty
		}
		return raws, true, nil
	}
	if body = scan.Trim(body); len(body) == 0 {
		return nil, false, errEmpty
	}
	if err := valid(body); err != nil {
		return nil, false, err
	}
	if body[0] != '[' {
		return [][]byte{body}, false, nil
	}
	for rest, at := body[1:len(body)-1], 0; ; {
		raw, next, ok := scan.Element(rest, at)
		if !ok {
			break
		}
		if len(raws) == limit {
			return nil, false, tooMany
		}
		raws = append(raws, raw)
		at = next
	}
	if len(raws) == 0 {
		return nil, false, errEmpty
	}
	return raws, true, nil
}

// valid reports whether data is one JSON value.
func valid(data []byte) error {
	end, err := scan.Value(data, 0)
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if scan.Space(data, end) < len(data) {
		return errors.New("not JSON: there is more behind the value (several operations are an array, or lines of application/x-ndjson)")
	}
	return nil
}

func (it *item) read(raw []byte) error {
	if err := valid(raw); err != nil {
		return err
	}
	if raw[0] != '{' {
		return errors.New("an operation is an object")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&it.wire); err != nil {
		if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("the field %q is a %s, want %s", bad.Field, bad.Value, bad.Type)
		}
		return err
	}
	if err := it.check(); err != nil {
		return err
	}
	if len(it.Args) == 0 || string(it.Args) == "null" {
		return nil
	}
	if it.Args[0] != '[' {
		return errors.New("args is the array of the event's arguments")
	}
	var err error
	it.args, err = readArgs(it.Args[1 : len(it.Args)-1])
	return err
}

// maxTimeout is more than any Options.MaxTime.
const maxTimeout = 24 * time.Hour

// check reports whether the fields go together.
func (it *item) check() error {
	actions := 0
	for _, set := range []bool{it.Event != nil, it.Join != nil, it.Leave != nil, it.Disconnect, it.Query != ""} {
		if set {
			actions++
		}
	}
	switch {
	case actions == 0:
		return errors.New(`it says not what to do: one of "event", "join", "leave", "disconnect":true and "query" is needed`)
	case actions > 1:
		return errors.New(`an operation does one thing: it has several of "event", "join", "leave", "disconnect" and "query"`)
	case it.Event != nil && *it.Event == "":
		return errors.New("the event has an empty name")
	case it.Event != nil && protocol.Reserved(*it.Event):
		return fmt.Errorf("%q is a reserved event name: choose another", *it.Event)
	case it.Event == nil && (it.Args != nil || it.Ask || it.Server || it.Volatile || it.Compress != nil):
		return errors.New(`"args", "ask", "server", "volatile" and "compress" go with "event"`)
	case it.Server && (it.Rooms != nil || it.Except != nil || it.Volatile || it.Compress != nil):
		return errors.New(`"rooms", "except", "volatile" and "compress" are for clients: they do not go with "server"`)
	case it.Close && !it.Disconnect:
		return errors.New(`"close" goes with "disconnect":true`)
	case it.Query != "" && it.Query != "count" && it.Query != "sockets" && it.Query != "rooms":
		return fmt.Errorf(`"query" is "count", "sockets" or "rooms", got %q`, it.Query)
	case it.Query == "rooms" && (it.Rooms != nil || it.Except != nil):
		return errors.New(`"query":"rooms" lists all rooms of the namespace: "rooms" and "except" do not go with it`)
	case it.TimeoutMs != nil && !it.Ask && it.Query == "":
		return errors.New(`"timeoutMs" goes with "ask":true and "query"`)
	case it.TimeoutMs != nil && (*it.TimeoutMs <= 0 || *it.TimeoutMs > maxTimeout.Milliseconds()):
		return errors.New(`"timeoutMs" is a number of milliseconds above 0`)
	}
	return nil
}
