package protocol_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An example is a packet and how it looks on the wire.
type example struct {
	Note       string   `json:"note"`
	Text       string   `json:"text"`
	Binary     []string `json:"binary"` // attachments, hexadecimal
	Type       string   `json:"type"`
	Namespace  string   `json:"namespace"`
	ID         *int64   `json:"id"`
	Data       string   `json:"data"`
	Event      *string  `json:"event"`
	Args       []string `json:"args"`
	DecodeOnly bool     `json:"decodeOnly"` // an encoder writes it in another way
}

// packet returns the packet that the example is about.
func (e *example) packet(t testing.TB) protocol.Packet {
	t.Helper()
	p := protocol.Packet{Namespace: "/", ID: protocol.NoID}
	for p.Type.String() != e.Type {
		if p.Type++; p.Type > protocol.BinaryAck {
			t.Fatalf("got type %q in the table, want the name of one", e.Type)
		}
	}
	if e.Namespace != "" {
		p.Namespace = e.Namespace
	}
	if e.ID != nil {
		p.ID = *e.ID
	}
	if e.Data != "" {
		p.Data = []byte(e.Data)
	}
	for _, s := range e.Binary {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		p.Attachments = append(p.Attachments, b)
	}
	return p
}

// A bad example is a message that must be refused.
type bad struct {
	Text  string `json:"text"`
	Error string `json:"error"` // part of what is said about it
}

func load[T any](t testing.TB, name string) []T {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}
