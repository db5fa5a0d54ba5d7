package official

import (
	"strings"

	"github.com/atollhq/atoll/cluster"
)

// The ends of the ids of questions that the format does not know.
const (
	countMark = "#count"
	roomsMark = "#rooms"
)

// Who answers must know what was asked, since an answer without anything in it looks alike for
// all questions. So the Request of a question that was read begins with a letter and a colon,
// which the answer to it gives back. The ids of Atoll nodes (crypto/rand.Text) and of Node.js nodes
// (hexadecimal) have no colon.
const (
	askedAck    = 'a'
	askedFetch  = 'f'
	askedCount  = 'c'
	askedRooms  = 'r'
	askedServer = 's'
)

// splitRequest returns the id in a Request, and what was asked; 0 where it does not say.
func splitRequest(request string) (id string, asked byte) {
	if len(request) > 2 && request[1] == ':' && strings.IndexByte("afcrs", request[0]) >= 0 {
		return request[2:], request[0]
	}
	return request, 0
}

// wireID returns the id of a question or an answer as it is written.
func wireID(request string, kind cluster.Kind) string {
	id, asked := splitRequest(request)
	switch {
	case kind == cluster.Count, asked == askedCount:
		return id + countMark
	case kind == cluster.Rooms, asked == askedRooms:
		return id + roomsMark
	}
	return id
}

// cutMark returns the id without its mark, and what it asks for: Count, Rooms, or Fetch.
func cutMark(id string) (string, cluster.Kind) {
	if plain, ok := strings.CutSuffix(id, countMark); ok {
		return plain, cluster.Count
	}
	if plain, ok := strings.CutSuffix(id, roomsMark); ok {
		return plain, cluster.Rooms
	}
	return id, cluster.Fetch
}

// kindOfAnswer returns what an answer is written as.
func kindOfAnswer(m *cluster.Message) Kind {
	a := m.Answer
	switch _, asked := splitRequest(m.Request); {
	case !a.First:
		return BroadcastAck
	case asked == askedAck:
		return ClientCount
	case asked == askedServer:
		return ServerSideResponse
	case asked != 0:
		return FetchResponse
	case a.Data != nil:
		return ServerSideResponse
	case a.Sockets != nil, a.Rooms != nil:
		return FetchResponse
	default:
		return ClientCount // which Atoll nodes take for any answer without content
	}
}
