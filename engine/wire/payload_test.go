package wire

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

type payloadCase struct {
	payload string
	packets []Packet
	bad     bool
}

// payloadCases reads testdata/payloads.txt.
func payloadCases(t testing.TB) []payloadCase {
	t.Helper()
	text, err := os.ReadFile("testdata/payloads.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []payloadCase
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var c payloadCase
		c.payload, line = unquote(t, line)
		for line != "" && !c.bad {
			kind, rest, _ := strings.Cut(line, " ")
			switch kind {
			case "error":
				c.bad, line = true, rest
				continue
			case "b":
				c.packets = append(c.packets, Packet{Type: Message, Binary: true})
			default:
				c.packets = append(c.packets, Packet{Type: Type(kind[0])})
			}
			var data string
			data, line = unquote(t, rest)
			c.packets[len(c.packets)-1].Data = []byte(data)
		}
		cases = append(cases, c)
	}
	return cases
}

func unquote(t testing.TB, line string) (text, rest string) {
	t.Helper()
	q, err := strconv.QuotedPrefix(line)
	if err != nil {
		t.Fatalf("testdata/payloads.txt: %q: %v", line, err)
	}
	text, _ = strconv.Unquote(q)
	return text, strings.TrimSpace(line[len(q):])
}

func decode(payload []byte) (ps []Packet, err error) {
	for more := true; more; {
		var p Packet
		if p, payload, more, err = NextPacket(payload); err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

var comparePackets = cmp.Options{cmpopts.IgnoreUnexported(Packet{}), cmpopts.EquateEmpty()}

func TestPayload(t *testing.T) {
	for _, c := range payloadCases(t) {
		got, err := decode([]byte(c.payload))
		if c.bad {
			if err == nil {
				t.Errorf("NextPacket(%q): got %v, want an error", c.payload, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("NextPacket(%q): %v", c.payload, err)
			continue
		}
		if d := cmp.Diff(c.packets, got, comparePackets); d != "" {
			t.Errorf("NextPacket(%q): (-want +got)\n%s", c.payload, d)
		}
		if got := string(AppendPayload(nil, c.packets)); got != c.payload {
			t.Errorf("AppendPayload: got %q, want %q", got, c.payload)
		}
		if got := PayloadLen(c.packets); got != len(c.payload) {
			t.Errorf("PayloadLen for %q: got %d, want %d", c.payload, got, len(c.payload))
		}
	}
}

func TestPayloadBinaryOfAllLengths(t *testing.T) {
	for n := range 2000 {
		data := bytes.Repeat([]byte{0, 0xff, byte(n)}, n/3+1)[:n]
		in := []Packet{{Type: Message, Data: []byte("x")}, {Type: Message, Binary: true, Data: data}, {Type: Pong}}
		got, err := decode(AppendPayload(nil, in))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if len(got) != 3 || !got[1].Binary || !bytes.Equal(got[1].Data, data) || got[2].Type != Pong {
			t.Fatalf("%d bytes: got other packets", n)
		}
	}
}

func FuzzPayload(f *testing.F) {
	for _, c := range payloadCases(f) {
		f.Add([]byte(c.payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ps, err := decode(bytes.Clone(payload))
		if err != nil {
			return
		}
		out := AppendPayload(nil, ps)
		if len(out) != PayloadLen(ps) {
			t.Errorf("PayloadLen: got %d, want %d", PayloadLen(ps), len(out))
		}
		again, err := decode(out)
		if err != nil {
			t.Fatalf("what AppendPayload made of %q: %v", payload, err)
		}
		if d := cmp.Diff(ps, again, comparePackets); d != "" {
			t.Errorf("%q: (-first +second)\n%s", payload, d)
		}
	})
}

func BenchmarkPayload(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("packets=%d", n), func(b *testing.B) {
			ps := make([]Packet, n)
			for i := range ps {
				ps[i] = Packet{Type: Message, Data: bytes.Repeat([]byte("x"), 100)}
			}
			buf := make([]byte, 0, PayloadLen(ps))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendPayload(buf[:0], ps)
				for rest, more := buf, true; more; {
					_, rest, more, _ = NextPacket(rest)
				}
			}
		})
	}
}
