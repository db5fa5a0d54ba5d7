package cluster

// What a decoded message takes in memory besides its bytes: a list of empty strings is one byte for each on
// the wire, and 16 in memory.
const (
	weightOfString = 16
	weightOfBytes  = 24
	weightOfSocket = 96
)

func weightOfStrings(ss []string) int64 {
	n := int64(len(ss)) * weightOfString
	for _, s := range ss {
		n += int64(len(s))
	}
	return n
}

// weightOfOp is about how many bytes op takes, without what it shares with the message that it came in.
func weightOfOp(op *Op) int64 {
	return 256 + weightOfStrings(op.Rooms) + weightOfStrings(op.Except) + weightOfStrings(op.Names) + weightOfBytes*int64(len(op.Attachments))
}

// weightOfAnswer is about how many bytes a takes, without what it shares with the message that it came in.
func weightOfAnswer(a *Answer) int64 {
	n := 128 + weightOfStrings(a.Rooms) + weightOfBytes*int64(len(a.Attachments)) + weightOfSocket*int64(len(a.Sockets))
	for i := range a.Sockets {
		n += int64(len(a.Sockets[i].ID)) + weightOfStrings(a.Sockets[i].Rooms)
	}
	return n
}
