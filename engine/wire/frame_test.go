package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// mask makes a frame of a client: first byte, payload, masked.
func mask(first byte, payload string) []byte {
	return maskAs(first, uint64(len(payload)), 0, payload)
}

// maskAs also chooses the declared length, and its form: 7, 16 or 64 bits; 0 takes the shortest.
func maskAs(first byte, size uint64, form int, payload string) []byte {
	b := []byte{first}
	switch {
	case form == 7 || form == 0 && size < 126:
		b = append(b, 0x80|byte(size))
	case form == 16 || form == 0 && size <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), size)
	}
	key := []byte{0x11, 0x22, 0x33, 0x44}
	b = append(b, key...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// read feeds stream to f in pieces of the given size, through Space where it offers some, and returns what
// came out as "op:data".
func read(f *Frames, stream []byte, piece int) (got []string, err error) {
	take := func(b []byte) error {
		for {
			fr, rest, ok, err := f.Next(b)
			if err != nil {
				return err
			}
			if !ok {
				return nil
			}
			got = append(got, fmt.Sprintf("%x:%s", byte(fr.Op), fr.Data))
			b = rest
		}
	}
	for len(stream) > 0 {
		n := min(piece, len(stream))
		if space := f.Space(); space != nil {
			n = copy(space, stream[:n])
			f.Filled(n)
			err = take(nil)
		} else {
			err = take(bytes.Clone(stream[:n]))
		}
		if err != nil {
			return got, err
		}
		stream = stream[n:]
	}
	return got, nil
}

var long = strings.Repeat("0123456789", 1000)

var frameCases = []struct {
	name   string
	stream []byte
	want   []string
	code   int // of the error; 0: none
}{
	{"text", mask(0x81, "hello"), []string{"1:hello"}, 0},
	{"empty text", mask(0x81, ""), []string{"1:"}, 0},
	{"binary", mask(0x82, "\x00\xff"), []string{"2:\x00\xff"}, 0},
	{"125 bytes", mask(0x82, long[:125]), []string{"2:" + long[:125]}, 0},
	{"126 bytes", mask(0x82, long[:126]), []string{"2:" + long[:126]}, 0},
	{"10,000 bytes", mask(0x81, long), []string{"1:" + long}, 0},
	{"64-bit length", maskAs(0x81, 5, 64, "hello"), []string{"1:hello"}, 0},
	{"16-bit length", maskAs(0x81, 5, 16, "hello"), []string{"1:hello"}, 0},
	{"several in a row", join(mask(0x81, "a"), mask(0x82, "b"), mask(0x81, "")), []string{"1:a", "2:b", "1:"}, 0},
	{"two fragments", join(mask(0x01, "hel"), mask(0x80, "lo")), []string{"1:hello"}, 0},
	{"empty fragments", join(mask(0x02, ""), mask(0x00, ""), mask(0x00, "x"), mask(0x80, "")), []string{"2:x"}, 0},
	{"fragments of a character", join(mask(0x01, "\xe2\x82"), mask(0x80, "\xac")), []string{"1:€"}, 0},
	{"ping", mask(0x89, "abc"), []string{"9:abc"}, 0},
	{"pong without ping", mask(0x8a, ""), []string{"a:"}, 0},
	{"ping of 125 bytes", mask(0x89, long[:125]), []string{"9:" + long[:125]}, 0},
	{"control inside a message", join(mask(0x01, "hel"), mask(0x89, "!"), mask(0x8a, ""), mask(0x80, "lo")), []string{"9:!", "a:", "1:hello"}, 0},
	{"message after fragments", join(mask(0x01, "a"), mask(0x80, "b"), mask(0x81, "c")), []string{"1:ab", "1:c"}, 0},
	{"close", mask(0x88, "\x03\xe8bye"), []string{"8:\x03\xe8bye"}, 0},
	{"at the limit", mask(0x82, strings.Repeat(long, 2)), []string{"2:" + strings.Repeat(long, 2)}, 0},

	{"not masked", []byte{0x81, 0x01, 'a'}, nil, CloseProtocol},
	{"RSV1", mask(0xc1, "a"), nil, CloseProtocol},
	{"RSV2", mask(0xa1, "a"), nil, CloseProtocol},
	{"RSV3", mask(0x91, "a"), nil, CloseProtocol},
	{"RSV1 of a ping", mask(0xc9, ""), nil, CloseProtocol},
	{"opcode 3", mask(0x83, ""), nil, CloseProtocol},
	{"opcode 7", mask(0x87, ""), nil, CloseProtocol},
	{"opcode b", mask(0x8b, ""), nil, CloseProtocol},
	{"opcode f", mask(0x8f, ""), nil, CloseProtocol},
	{"fragmented ping", mask(0x09, ""), nil, CloseProtocol},
	{"fragmented close", mask(0x08, ""), nil, CloseProtocol},
	{"ping of 126 bytes", mask(0x89, long[:126]), nil, CloseProtocol},
	{"close of 126 bytes", mask(0x88, long[:126]), nil, CloseProtocol},
	{"continuation of nothing", mask(0x80, "a"), nil, CloseProtocol},
	{"continuation after a whole message", join(mask(0x81, "a"), mask(0x00, "b")), []string{"1:a"}, CloseProtocol},
	{"text inside fragments", join(mask(0x01, "a"), mask(0x81, "b")), nil, CloseProtocol},
	{"binary inside fragments", join(mask(0x01, "a"), mask(0x02, "b")), nil, CloseProtocol},
	{"length with the highest bit", maskAs(0x82, 1<<63, 64, ""), nil, CloseProtocol},
	{"length of 64 ones", maskAs(0x82, 1<<64-1, 64, ""), nil, CloseProtocol},
	{"63-bit length", maskAs(0x82, 1<<63-1, 64, ""), nil, CloseTooBig},
	{"32-bit length", maskAs(0x82, 1<<32, 64, ""), nil, CloseTooBig},
	{"one byte too many", maskAs(0x82, 20001, 64, ""), nil, CloseTooBig},
	{"one byte too many in fragments", join(mask(0x02, strings.Repeat(long, 2)), maskAs(0x80, 1, 0, "")), nil, CloseTooBig},
	{"fragment that overflows", join(mask(0x02, "x"), maskAs(0x80, 1<<63-1, 64, "")), nil, CloseTooBig},
	{"not UTF-8", mask(0x81, "\xff"), nil, CloseInvalid},
	{"surrogate", mask(0x81, "\xed\xa0\x80"), nil, CloseInvalid},
	{"half a character", mask(0x81, "a\xe2\x82"), nil, CloseInvalid},
	{"half a character in fragments", join(mask(0x01, "a\xe2"), mask(0x80, "\x82")), nil, CloseInvalid},
}

func TestFrames(t *testing.T) {
	for _, c := range frameCases {
		for _, piece := range []int{1, 2, 3, 7, 100, 4096, 1 << 20} {
			f := &Frames{Max: 20000}
			got, err := read(f, c.stream, piece)
			if fmt.Sprintf("%.60q", got) != fmt.Sprintf("%.60q", c.want) {
				t.Errorf("%s, in pieces of %d: got %.60q, want %.60q", c.name, piece, got, c.want)
			}
			for i := range min(len(got), len(c.want)) {
				if got[i] != c.want[i] {
					t.Errorf("%s, in pieces of %d: message %d differs", c.name, piece, i)
				}
			}
			var fe *FrameError
			switch {
			case c.code == 0 && err != nil:
				t.Errorf("%s, in pieces of %d: %v", c.name, piece, err)
			case c.code == 0 && !f.Idle():
				t.Errorf("%s, in pieces of %d: something is left", c.name, piece)
			case c.code != 0 && (!errors.As(err, &fe) || fe.Code != c.code):
				t.Errorf("%s, in pieces of %d: got error %v, want code %d", c.name, piece, err, c.code)
			}
		}
	}
}

func TestFramesOfServers(t *testing.T) {
	stream := AppendControl(nil, OpPing, []byte("p"))
	stream = AppendFrame(stream, &Packet{Type: Message, Data: []byte("hello")})
	stream = AppendFrame(stream, &Packet{Type: Message, Binary: true, Data: []byte(long)})
	stream = AppendClose(stream, CloseTooBig, "big")
	got, err := read(&Frames{Unmasked: true}, stream, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"9:p", "1:4hello", "2:" + long, "8:\x03\xf1big"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %.80q, want %.80q", got, want)
	}
	if _, err := read(&Frames{Unmasked: true}, mask(0x81, "a"), 100); err == nil {
		t.Error("got no error for a masked frame of a server, want one")
	}
}

func TestFramesCountFragments(t *testing.T) {
	f := &Frames{Max: 1 << 20}
	if _, err := read(f, mask(0x02, ""), 100); err != nil {
		t.Fatal(err)
	}
	for range maxFragments - 1 {
		if _, err := read(f, mask(0x00, ""), 100); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := read(f, mask(0x00, ""), 100); err == nil {
		t.Errorf("got no error for %d fragments, want one", maxFragments+1)
	}
}

// TestFramesMemory checks that a client gets no more memory than twice what it sent, whatever it declares.
func TestFramesMemory(t *testing.T) {
	f := &Frames{Max: 1 << 20}
	if _, err := read(f, maskAs(0x82, 1<<20, 64, "x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	sent := 1
	for i := 0; sent < 1<<20; i++ {
		space := f.Space()
		if space == nil {
			break
		}
		if got, limit := cap(f.msg), 2*sent+8192; got > limit {
			t.Fatalf("after %d bytes: got %d bytes of memory, want at most %d", sent, got, limit)
		}
		n := min(len(space), 1000)
		f.Filled(n)
		sent += n
	}
}

func TestCloseCode(t *testing.T) {
	for _, c := range []struct {
		payload string
		code    int // 0: refused
	}{
		{"", CloseNoStatus}, {"\x03", 0}, {"\x03\xe8", 1000}, {"\x03\xe8bye", 1000}, {"\x03\xe9", 1001},
		{"\x03\xeb", 1003}, {"\x03\xec", 0}, {"\x03\xed", 0}, {"\x03\xee", 0}, {"\x03\xf6", 1014}, {"\x03\xf7", 0},
		{"\x00\x00", 0}, {"\x03\xe7", 0}, {"\x0b\xb7", 0}, {"\x0b\xb8", 3000}, {"\x13\x87", 4999}, {"\x13\x88", 0},
		{"\x03\xe8\xff", 0},
	} {
		got, err := CloseCode([]byte(c.payload))
		if got != c.code || (err != nil) != (c.code == 0) {
			t.Errorf("CloseCode(%q): got %d, %v, want %d", c.payload, got, err, c.code)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, c := range []struct {
		code   int
		reason string
		want   string
	}{
		{1000, "", "\x88\x02\x03\xe8"},
		{1009, "big", "\x88\x05\x03\xf1big"},
		{CloseNoStatus, "x", "\x88\x00"},
		{1000, "\xff", "\x88\x02\x03\xe8"},
	} {
		if got := AppendClose(nil, c.code, c.reason); string(got) != c.want {
			t.Errorf("AppendClose(%d, %q): got %q, want %q", c.code, c.reason, got, c.want)
		}
	}
	b := AppendClose(nil, 1000, strings.Repeat("€", 100))
	if len(b) > 2+125 {
		t.Errorf("close frame with a long reason: got %d bytes, want at most 127", len(b))
	}
	if _, err := CloseCode(b[2:]); err != nil {
		t.Errorf("close frame with a long reason: %v", err)
	}
}

// TestSeal checks that the frame that Seal prepares is the one that AppendFrame makes.
func TestSeal(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 100000} {
		for _, bin := range []bool{false, true} {
			data := bytes.Repeat([]byte("x"), n)
			p := Seal(append(make([]byte, Headroom), data...), bin)
			want := AppendFrame(nil, &Packet{Type: Message, Binary: bin, Data: data})
			if !bytes.Equal(p.Frame(), want) {
				t.Errorf("%d bytes, binary %v: frames differ: got %.20q, want %.20q", n, bin, p.Frame(), want)
			}
			if !bytes.Equal(p.Data, data) {
				t.Errorf("%d bytes, binary %v: data differs", n, bin)
			}
			h := AppendFrameHeader(nil, &p)
			if !bytes.Equal(append(h, data...), want) {
				t.Errorf("%d bytes, binary %v: header differs", n, bin)
			}
		}
	}
}

// FuzzFrames reads the same stream whole and in pieces: nothing panics, and both give the same.
func FuzzFrames(f *testing.F) {
	for i, c := range frameCases {
		f.Add(c.stream, uint64(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		const limit = 1 << 15
		whole := &Frames{Max: limit}
		want, wantErr := read(whole, stream, len(stream)+1)
		r := rand.New(rand.NewPCG(seed, 1))
		pieces := &Frames{Max: limit}
		var got []string
		var err error
		for rest := stream; len(rest) > 0 && err == nil; {
			n := min(1+r.IntN(40), len(rest))
			var some []string
			some, err = read(pieces, rest[:n], n)
			got = append(got, some...)
			rest = rest[n:]
		}
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("error: got %v, want %v", err, wantErr)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", got, want)
		}
		if cap(pieces.msg) > limit {
			t.Errorf("got %d bytes of memory, want at most %d", cap(pieces.msg), limit)
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	for _, n := range []int{64, 1024, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			stream := mask(0x81, strings.Repeat("x", n))
			buf := make([]byte, len(stream))
			f := &Frames{Max: 1 << 20}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, stream)
				if _, _, ok, err := f.Next(buf); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
