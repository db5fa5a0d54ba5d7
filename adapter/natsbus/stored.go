package natsbus

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/atollhq/atoll/recovery"
)

// stored is what lies on the subject of a session.
type stored struct {
	seq      uint64 // its revision
	writer   string // who wrote it
	replaced uint64 // the revision that it was written over; 0 where it does not matter
	grave    bool   // the session was taken or dropped
	session  *recovery.Session
	until    time.Time // when its time is up
}

// It is written as a version, a byte that is 1 for a grave, the writer, the revision that it replaces, the time
// until which it holds (nanoseconds), and the session's strings, its rooms last. A string has its length
// before it; numbers are varints.
const sessionVersion = 1

var errSession = errors.New("a session that this version cannot read")

func appendText[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendGrave(writer string, replaced uint64) []byte {
	return binary.AppendUvarint(appendText([]byte{sessionVersion, 1}, writer), replaced)
}

func appendSession(writer string, s *recovery.Session, replaced uint64, until time.Time) []byte {
	b := appendText([]byte{sessionVersion, 0}, writer)
	b = binary.AppendUvarint(b, replaced)
	b = binary.AppendVarint(b, until.UnixNano())
	for _, v := range []string{s.SID, s.Namespace, s.Offset, s.Last, s.Start} {
		b = appendText(b, v)
	}
	b = appendText(b, s.Data)
	for _, r := range s.Rooms {
		b = appendText(b, r)
	}
	return b
}

func readSession(b []byte) (*stored, error) {
	if len(b) < 2 || b[0] != sessionVersion {
		return nil, errSession
	}
	x := &stored{grave: b[1] == 1}
	b = b[2:]
	bad := false
	text := func() string {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			b, bad = nil, true
			return ""
		}
		s := string(b[k : k+int(n)])
		b = b[k+int(n):]
		return s
	}
	x.writer = text()
	n, k := binary.Uvarint(b)
	if bad || k <= 0 {
		return nil, errSession
	}
	x.replaced = n
	if b = b[k:]; x.grave {
		return x, nil
	}
	until, k := binary.Varint(b)
	if k <= 0 {
		return nil, errSession
	}
	b = b[k:]
	x.until = time.Unix(0, until)
	s := &recovery.Session{SID: text(), Namespace: text(), Offset: text(), Last: text(), Start: text()}
	if data := text(); data != "" {
		s.Data = []byte(data)
	}
	for len(b) > 0 {
		s.Rooms = append(s.Rooms, text())
	}
	if bad {
		return nil, errSession
	}
	x.session = s
	return x, nil
}
