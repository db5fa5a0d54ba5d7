package event_test

import (
	"fmt"

	"github.com/atollhq/atoll/event"
)

func ExampleArgs() {
	args, err := event.NewArgs("ada", 36, []byte("portrait"))
	if err != nil {
		fmt.Println(err)
		return
	}
	var name string
	var rest event.Args
	if err := args.DecodeAll(&name, &rest); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(name, rest)
	// Output: ada [36,{"_placeholder":true,"num":0}]
}

// A Move is sent as two arguments.
type Move struct{ From, To string }

func (m *Move) Fields() []any { return []any{&m.From, &m.To} }

func ExampleTuple() {
	data, _, err := event.AppendEvent(nil, nil, "move", event.Values(Move{"e2", "e4"})...)
	fmt.Println(string(data), err)
	// Output: ["move","e2","e4"] <nil>
}
