package protocol_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/protocol"
)

var public = cmpopts.IgnoreUnexported(protocol.Packet{})

// decode gives d a whole packet, in memory that is overwritten right after.
func decode(d *protocol.Decoder, text string, attachments ...[]byte) (protocol.Packet, error) {
	buf := []byte(text)
	p, ok, err := d.Text(buf)
	clear(buf)
	for i, a := range attachments {
		if ok || err != nil {
			return p, fmt.Errorf("after %d attachments: complete %t, %w", i, ok, err)
		}
		buf := bytes.Clone(a)
		p, ok, err = d.Binary(buf)
		clear(buf)
	}
	if err == nil && !ok {
		err = errors.New("incomplete")
	}
	return p, err
}

func TestDecode(t *testing.T) {
	var d protocol.Decoder
	for _, e := range load[example](t, "packets.json") {
		want := e.packet(t)
		got, err := decode(&d, e.Text, want.Attachments...)
		if err != nil {
			t.Errorf("%s: %v", e.Note, err)
			continue
		}
		if diff := cmp.Diff(want, got, public, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: want - , got + :\n%s", e.Note, diff)
		}
		if d.Waiting() {
			t.Errorf("%s: got a decoder that waits, want one that is done", e.Note)
		}
		if e.Event != nil {
			name, args, n, err := got.Event()
			if err != nil {
				t.Errorf("%s: %v", e.Note, err)
			}
			checkEvent(t, &e, name, args, n)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	var d protocol.Decoder
	for _, e := range load[bad](t, "bad.json") {
		p, ok, err := d.Text([]byte(e.Text))
		if perr, is := errors.AsType[*protocol.Error](err); !is || ok {
			t.Errorf("%s: got %+v, %t, %v, want an error", e.Text, p, ok, err)
		} else if !strings.Contains(err.Error(), e.Error) || perr.Offset > len(e.Text) {
			t.Errorf("%s: got %v at %d, want ...%s...", e.Text, err, perr.Offset, e.Error)
		}
		if d.Waiting() {
			t.Fatalf("%s: got a decoder that waits, want one that starts afresh", e.Text)
		}
	}
	if _, err := decode(&d, `2["still","works"]`); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"2[\"a\xff\"]", "2[\"\xed\xa0\x80\"]", "0/a\xff,{}", "2[\"a\",{\"\xc3\":1}]"} {
		if _, err := decode(&d, text); err == nil {
			t.Errorf("%q: got a packet, want an error", text)
		}
	}
}

func TestDecodeDepth(t *testing.T) {
	var d protocol.Decoder
	nest := func(n int) string {
		return `2["a",` + strings.Repeat(`[{"a":`, n) + "1" + strings.Repeat("}]", n) + "]"
	}
	if _, err := decode(&d, nest(256)); err != nil {
		t.Error(err)
	}
	for _, n := range []int{257, 100_000} {
		if _, err := decode(&d, nest(n)); err == nil || !strings.Contains(err.Error(), "too deep") {
			t.Errorf("got %v, want too deep", err)
		}
	}
	if _, err := decode(&d, "2["+strings.Repeat("[", 1_000_000)); err == nil {
		t.Error("got a packet, want an error")
	}
}

func TestDecodeAttachmentsOutOfTurn(t *testing.T) {
	const one = `51-["a",{"_placeholder":true,"num":0}]`
	var d protocol.Decoder
	if _, _, err := d.Binary([]byte("x")); err == nil {
		t.Error("got no error for an attachment that no packet announced")
	}
	if _, ok, err := d.Text([]byte(one)); ok || err != nil || !d.Waiting() {
		t.Fatalf("got %t, %v, want a decoder that waits", ok, err)
	}
	if _, _, err := d.Text([]byte(`2["a"]`)); err == nil {
		t.Error("got no error for text where an attachment should be")
	}
	if d.Waiting() {
		t.Error("got a decoder that waits after an error")
	}
	if _, _, err := d.Text([]byte(one)); err != nil {
		t.Fatal(err)
	}
	d.Reset()
	if _, err := decode(&d, `2["a"]`); err != nil {
		t.Error(err)
	}
}

func TestDecodeLimits(t *testing.T) {
	text := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i)
		}
		return fmt.Sprintf(`5%d-["a",%s]`, n, strings.Join(list, ","))
	}
	for _, tt := range []struct {
		max, n int
		ok     bool
	}{{0, 10, true}, {0, 11, false}, {2, 2, true}, {2, 3, false}, {-1, 1, false}, {300, 300, true}, {1000, 1001, false}} {
		d := protocol.Decoder{MaxAttachments: tt.max}
		_, _, err := d.Text([]byte(text(tt.n)))
		if ok := err == nil; ok != tt.ok {
			t.Errorf("limit %d, %d attachments: got %v, want %t", tt.max, tt.n, err, tt.ok)
		}
	}
	for _, tt := range []struct {
		max  int
		last int
		ok   bool
	}{{100, 50, true}, {100, 51, false}, {0, 999_950, true}, {0, 999_951, false}, {-1, 2_000_000, true}} {
		d := protocol.Decoder{MaxBytes: tt.max}
		_, err := decode(&d, text(2), make([]byte, 50), make([]byte, tt.last))
		if ok := err == nil; ok != tt.ok {
			t.Errorf("limit %d, %d bytes: got %v, want %t", tt.max, 50+tt.last, err, tt.ok)
		}
	}
}

func TestDecodeNamespaceIsKept(t *testing.T) {
	var d protocol.Decoder
	for _, ns := range []string{"/a", "/a", "/b", "/a"} {
		p, err := decode(&d, "2"+ns+`,["x"]`)
		if err != nil || p.Namespace != ns {
			t.Errorf("got %q, %v, want %q", p.Namespace, err, ns)
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	var d protocol.Decoder
	for _, tt := range []struct {
		text string
		max  float64
	}{
		{`2["message",{"user":"ada","text":"hello, how are you","room":"lobby","at":1732233600000},17]`, 1},
		{`2/chat,12["message",{"a":[1,2,3]}]`, 1},
		{`312[]`, 1},
		{`1/chat,`, 0},
	} {
		text := []byte(tt.text)
		handlers := map[string]int{"message": 1}
		got := testing.AllocsPerRun(100, func() {
			p, ok, err := d.Text(text)
			if err != nil || !ok {
				t.Fatal(err)
			}
			if p.Type == protocol.Event {
				name, _, _, _ := p.Event()
				if handlers[string(name)] == 0 {
					t.Fatal("no handler")
				}
			}
		})
		if got > tt.max {
			t.Errorf("%s: got %v allocations, want at most %v", tt.text, got, tt.max)
		}
	}
}

// FuzzDecode gives the decoder messages one after another, with a first byte each
// that says whether they are binary, and encodes again what comes out.
func FuzzDecode(f *testing.F) {
	for _, e := range load[example](f, "packets.json") {
		p := e.packet(f)
		seed := "t" + e.Text
		for _, a := range p.Attachments {
			seed += "\x1eb" + hex.EncodeToString(a)
		}
		f.Add([]byte(seed))
	}
	for _, e := range load[bad](f, "bad.json") {
		f.Add([]byte("t" + e.Text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := protocol.Decoder{MaxBytes: 1 << 16}
		for m := range bytes.SplitSeq(data, []byte{0x1e}) {
			if len(m) == 0 {
				continue
			}
			var p protocol.Packet
			var ok bool
			var err error
			if m[0] == 'b' {
				p, ok, err = d.Binary(m[1:])
			} else {
				p, ok, err = d.Text(m[1:])
			}
			if err != nil || !ok {
				if err != nil && ok {
					t.Fatalf("got a packet and the error %v", err)
				}
				continue
			}
			checkAgain(t, &p)
		}
	})
}

// checkAgain encodes p and decodes it again.
func checkAgain(t *testing.T, p *protocol.Packet) {
	d := protocol.Decoder{MaxBytes: -1}
	text := string(p.Append(nil))
	again, err := decode(&d, text, p.Attachments...)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if diff := cmp.Diff(*p, again, public, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%q: got another packet:\n%s", text, diff)
	}
	if p.Type != protocol.Event {
		return
	}
	name, args, n, err := p.Event()
	if err != nil {
		t.Fatal(err)
	}
	name2, args2, n2, err := protocol.SplitEvent(p.Data)
	if err != nil || !bytes.Equal(name, name2) || !bytes.Equal(args, args2) || n != n2 {
		t.Fatalf("got %q %q %d and %q %q %d, %v, want the same", name, args, n, name2, args2, n2, err)
	}
	if protocol.Reserved(string(name)) {
		t.Fatalf("got the reserved name %s", name)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct{ name, text string }{
		{"100B", `2["message",{"user":"ada","text":"hello, how are you","room":"lobby","at":1732233600000},17.5]`},
		{"small", `2["echo","x"]`},
		{"ack", `312["ok"]`},
		{"10kB", `2["m","` + strings.Repeat("0123456789", 1000) + `"]`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var d protocol.Decoder
			text := []byte(bb.text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				p, _, err := d.Text(text)
				if err != nil {
					b.Fatal(err)
				}
				if p.Type == protocol.Event {
					p.Event()
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	p := protocol.Packet{Type: protocol.Event, Namespace: "/chat", ID: 17, Data: []byte(`["message",{"user":"ada","text":"hello"}]`)}
	buf := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		buf = p.Append(buf[:0])
	}
}
