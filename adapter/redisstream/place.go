package redisstream

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// How long a message waits at most for the stream to be read as far as its sender had written it. What the nodes say of
// themselves waits less, since silence is taken for death.
const (
	messageWaits  = time.Second
	announceWaits = 500 * time.Millisecond
	maxHeld       = 16 << 20 // bytes that wait, of one channel
)

// afterField is the key under which a message says how far its sender had written the streams: "INDEX:ID", several
// with commas between. Node.js nodes do not read it.
const afterField = "after"

// A held message waits.
type held struct {
	msg   []byte
	after []mark
	until time.Time
}

// A mark is a place in a stream.
type mark struct {
	index int
	at    id
}

// places returns how far this Bus has written the streams.
func (b *Bus) places() string {
	var s []byte
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, at := range b.written {
		if at == (id{}) {
			continue
		}
		if len(s) > 0 {
			s = append(s, ',')
		}
		s = strconv.AppendInt(s, int64(i), 10)
		s = append(append(s, ':'), at.String()...)
	}
	return string(s)
}

// parsePlaces is the inverse of places; it returns nothing for what is none.
func parsePlaces(s string) (marks []mark) {
	for part := range strings.SplitSeq(s, ",") {
		i, text, _ := strings.Cut(part, ":")
		index, err := strconv.Atoi(i)
		at, ok := parseID(text)
		if err != nil || !ok {
			return nil
		}
		marks = append(marks, mark{index, at})
	}
	return marks
}

// stamp adds the places to a message for a channel: to one of the official format as one more key of its map, to one that only
// Atoll nodes read behind its end, with the length last.
func (b *Bus) stamp(topic string, msg []byte) []byte {
	switch {
	case b.dialect.side.Has(topic):
		places := b.places()
		msg = append(slices.Clone(msg), places...)
		return binary.BigEndian.AppendUint16(msg, uint16(len(places)))
	case strings.HasPrefix(topic, b.o.ChannelPrefix+"#") && len(msg) > 0 && msg[0] >= 0x80 && msg[0] < 0x8f:
		places := b.places()
		if places == "" {
			return msg
		}
		msg = slices.Clone(msg)
		msg[0]++
		return msgp.AppendString(msgp.AppendString(msg, afterField), places)
	default:
		return msg
	}
}

// unstamp returns a message without what stamp has put behind its end, and the places.
func (b *Bus) unstamp(topic string, msg []byte) ([]byte, []mark) {
	if b.dialect.side.Has(topic) {
		rest := len(msg) - 2
		if rest < 0 {
			return msg, nil
		}
		n := int(binary.BigEndian.Uint16(msg[rest:]))
		if n > rest {
			return msg, nil
		}
		return msg[:rest-n], parsePlaces(string(msg[rest-n : rest]))
	}
	if !strings.HasPrefix(topic, b.o.ChannelPrefix+"#") || len(msg) == 0 || msg[0] < 0x81 || msg[0] > 0x8f {
		return msg, nil
	}
	n, rest, err := msgp.ReadMapHeaderBytes(msg)
	for ; err == nil && n > 0; n-- {
		var key []byte
		if key, rest, err = msgp.ReadStringZC(rest); err != nil {
			break
		}
		if string(key) == afterField {
			var s string
			if s, _, err = msgp.ReadStringBytes(rest); err == nil {
				return msg, parsePlaces(s)
			}
			break
		}
		rest, err = msgp.Skip(rest)
	}
	return msg, nil
}

// reached reports whether this Bus has read its streams as far as marks say. changed is closed when it has read more.
func (b *Bus) reached(marks []mark) (ok bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range marks {
		if m.index < 0 || m.index >= b.o.StreamCount {
			continue
		}
		if r := b.readers[b.o.key(m.index)]; r != nil && r.at.before(m.at) {
			return false, b.moved
		}
	}
	return true, b.moved
}

// announcements is the channel where nodes tell how much they have told: that waits for the stream, the rest of what
// Atoll nodes say to each other does not.
func (b *Bus) announcements() string { all, _ := b.dialect.side.All(); return all }

// receive takes a message of a channel.
func (s *subscription) receive(topic string, msg []byte) {
	b := s.bus
	msg, marks := b.unstamp(topic, msg)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliver == nil {
		return
	}
	if len(s.queue) == 0 {
		if ok, _ := b.reached(marks); ok || b.dialect.side.Has(topic) && topic != b.announcements() {
			s.deliver(topic, "", msg)
			return
		}
	}
	wait := messageWaits
	if b.dialect.side.Has(topic) {
		wait = announceWaits
	}
	s.queue = append(s.queue, held{msg, marks, time.Now().Add(wait)})
	if s.bytes += len(msg); s.bytes > maxHeld {
		s.release()
		return
	}
	if s.drained && b.tasks.Go(s.drain) {
		s.drained = false
	} else if s.drained {
		s.release()
	}
}

// release delivers all that waits. s.mu is held.
func (s *subscription) release() {
	for _, h := range s.queue {
		s.deliver(s.topic, "", h.msg)
	}
	s.queue, s.bytes = nil, 0
}

// drain delivers what waits, each when the stream was read far enough or its time is up.
func (s *subscription) drain() {
	for {
		s.mu.Lock()
		if s.deliver == nil || len(s.queue) == 0 {
			s.drained = true
			s.mu.Unlock()
			return
		}
		h := s.queue[0]
		ok, changed := s.bus.reached(h.after)
		left := time.Until(h.until)
		if ok || left <= 0 {
			s.queue[0] = held{}
			s.queue = s.queue[1:]
			s.bytes -= len(h.msg)
			s.deliver(s.topic, "", h.msg)
			s.mu.Unlock()
			continue
		}
		s.mu.Unlock()
		t := time.NewTimer(left)
		select {
		case <-changed:
		case <-t.C:
		case <-s.bus.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}
