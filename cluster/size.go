package cluster

// sizeOf is about how many bytes m takes.
func sizeOf(m *Message) int {
	n := 72 + sealSize + len(m.From) + len(m.To) + len(m.Request) + len(m.Data) + sizeOfOp(m.Op) + sizeOfAnswer(m.Answer)
	for i := range m.Marks {
		n += 11 + len(m.Marks[i].Lane)
	}
	for i := range m.Spans {
		n += 22 + len(m.Spans[i].Lane)
	}
	for i := range m.Parts {
		n += 16 + len(m.Parts[i].Lane) + len(m.Parts[i].Data)
	}
	return n
}

func sizeOfOp(o *Op) int {
	if o == nil {
		return 0
	}
	n := 32 + len(o.Namespace) + len(o.Data) + 5*len(o.Attachments)
	for _, ss := range [][]string{o.Rooms, o.Except, o.Names} {
		for _, s := range ss {
			n += 2 + len(s)
		}
	}
	for _, a := range o.Attachments {
		n += len(a)
	}
	return n
}

func sizeOfAnswer(a *Answer) int {
	if a == nil {
		return 0
	}
	n := 32 + len(a.Data) + 24*len(a.Rooms)
	for _, x := range a.Attachments {
		n += 5 + len(x)
	}
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n += 32 + 24*len(s.Rooms) + len(s.Handshake) + len(s.Data)
	}
	return n
}
