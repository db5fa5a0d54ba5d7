package cluster

import (
	"encoding/binary"
	"errors"
)

func appendMarks(b []byte, ms []Mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(ms)))
	for i := range ms {
		b = appendString(b, ms[i].Lane)
		b = binary.AppendUvarint(b, ms[i].Next)
	}
	return b
}

func (r *reader) marks() []Mark {
	return list(r, func() Mark { return Mark{Lane: r.string(), Next: r.uint()} })
}

func appendSpans(b []byte, ss []Span) []byte {
	b = binary.AppendUvarint(b, uint64(len(ss)))
	for i := range ss {
		s := &ss[i]
		b = appendString(b, s.Lane)
		b = binary.AppendUvarint(b, s.First)
		b = binary.AppendUvarint(b, s.Last)
		b = append(b, bit(s.Void)|bit(s.Coming)<<1)
	}
	return b
}

func (r *reader) spans() []Span {
	return list(r, func() Span {
		s := Span{Lane: r.string(), First: r.uint(), Last: r.uint()}
		flags := r.byte()
		s.Void, s.Coming = flags&1 != 0, flags&2 != 0
		return s
	})
}

func appendParts(b []byte, ps []Part) []byte {
	b = binary.AppendUvarint(b, uint64(len(ps)))
	for i := range ps {
		b = appendString(b, ps[i].Lane)
		b = binary.AppendUvarint(b, ps[i].Number)
		b = appendString(b, ps[i].Data)
	}
	return b
}

func (r *reader) parts() []Part {
	return list(r, func() Part { return Part{Lane: r.string(), Number: r.uint(), Data: r.bytes()} })
}

// appendPartHead writes what stands in the Data of a Part before the body of m, a Tell or an Ask.
func appendPartHead(b []byte, m *Message) []byte {
	kind := byte(m.Kind)
	if m.Routed {
		kind |= routedBit
	}
	if m.To != "" {
		kind |= toBit
	}
	b = append(b, kind)
	if m.To != "" {
		b = appendString(b, m.To)
		b = binary.AppendUvarint(b, m.ToLife)
	}
	return b
}

// decodePart reads the Data of a Part of a sender.
func decodePart(from string, life, number uint64, data []byte) (*Message, error) {
	r := reader{b: data}
	kind := r.byte()
	m := &Message{
		Kind: MessageKind(kind &^ (routedBit | toBit)), Routed: kind&routedBit != 0, From: from, Life: life, Number: number,
	}
	if m.Kind != Tell && m.Kind != Ask {
		return nil, errors.New("cluster: what is sent again is neither told nor asked")
	}
	if kind&toBit != 0 {
		m.To, m.ToLife = r.string(), r.uint()
	}
	r.body(m, "")
	m.Age = 0 // it was true when this was said first
	if r.err == nil {
		r.err = check(m)
	}
	return m, r.err
}
