package httpemit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

// The codes of errors, for programs.
const (
	invalid      = "invalid"
	unauthorized = "unauthorized"
	wrongMethod  = "wrong_method"
	wrongType    = "wrong_type"
	tooLarge     = "too_large"
	unsupported  = "unsupported"
	tooOften     = "rate"
	tellsOnly    = "tells_only"
	unavailable  = "unavailable"
	busy         = "busy"
	timedOut     = "timeout"
)

// A result is what came of an operation.
type result struct {
	OK    bool   `json:"ok"`
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`

	Answers   []json.RawMessage `json:"answers,omitzero"`
	Count     *int              `json:"count,omitempty"`
	Sockets   []socket          `json:"sockets,omitzero"`
	Rooms     []string          `json:"rooms,omitzero"`
	Missing   *missing          `json:"missing,omitempty"`
	Truncated bool              `json:"truncated,omitempty"`
}

// results are what came of a batch.
type results struct {
	OK      bool     `json:"ok"`
	Results []result `json:"results"`
}

// A socket leaves out the handshake, which holds cookies and tokens of clients.
type socket struct {
	ID    string          `json:"id"`
	Node  string          `json:"node,omitempty"`
	Rooms []string        `json:"rooms"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// missing is who did not answer.
type missing struct {
	Nodes   []string `json:"nodes,omitempty"`
	Unnamed int      `json:"unnamed,omitempty"`
	Acks    int      `json:"acks,omitempty"`
	Reason  string   `json:"reason"`
}

func (r *result) status() int {
	switch r.Code {
	case "":
		return http.StatusOK
	case invalid:
		return http.StatusBadRequest
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	case unsupported:
		return http.StatusUnprocessableEntity
	case tellsOnly:
		return http.StatusNotImplemented
	case timedOut:
		return http.StatusGatewayTimeout
	}
	return http.StatusServiceUnavailable
}

// fail makes r the result of an operation that did not succeed.
func (r *result) fail(err error) {
	*r = result{Error: err.Error()}
	switch {
	case errors.Is(err, emitter.ErrTellsOnly):
		r.Code = tellsOnly
	case errors.Is(err, cluster.ErrTooLarge):
		r.Code = tooLarge
	case errors.Is(err, cluster.ErrUnsupported):
		r.Code = unsupported
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		r.Code = timedOut
	default:
		r.Code = unavailable
	}
}

// absent takes in the end of a question: who is missing, if the question was put at all.
func (r *result) absent(err error) bool {
	e, ok := errors.AsType[*cluster.AbsentError](err)
	if !ok || e.Err != nil && e.Err != context.DeadlineExceeded { // one that is wrapped is of the medium
		return false
	}
	r.Missing = &missing{Nodes: e.Nodes, Unnamed: e.Unnamed, Acks: e.Acks, Reason: "they did not answer in time"}
	if e.Err == nil {
		r.Missing.Reason = "they ended meanwhile"
	}
	return true
}
