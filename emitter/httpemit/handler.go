package httpemit

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/atollhq/atoll/emitter"
)

// A Handler performs the operations in the requests that it gets. Any number of goroutines may use it.
type Handler struct {
	em     *emitter.Emitter
	o      Options
	tokens atomic.Pointer[[][sha256.Size]byte]
	places chan struct{} // holds a token for each request in work
	rate   *rate.Limiter // nil where there is no limit
	failed atomic.Int64  // when the medium did not take the last operation, in Unix nanoseconds; 0 where it did
}

// New returns a Handler that emits with em, which stays the caller's. If em was made by
// emitter.New, operations that ask are refused. The error says what is wrong with the options.
func New(em *emitter.Emitter, o *Options) (*Handler, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Handler{em: em, o: opts, places: make(chan struct{}, opts.MaxRequests)}
	if opts.Rate > 0 {
		h.rate = rate.NewLimiter(rate.Limit(opts.Rate), opts.MaxBatch)
	}
	if opts.Open {
		return h, nil
	}
	if err := h.SetTokens(opts.Tokens...); err != nil {
		return nil, err
	}
	return h, nil
}

// SetTokens has the Handler accept these tokens and no others from now on. After an error the
// tokens are as they were.
func (h *Handler) SetTokens(tokens ...string) error {
	if h.o.Open {
		return errors.New("httpemit: a handler with Options.Open has no tokens")
	}
	if len(tokens) == 0 {
		return errors.New("httpemit: no token: nobody could emit")
	}
	hs, err := hashes(tokens)
	if err != nil {
		return err
	}
	h.tokens.Store(&hs)
	return nil
}

// Health returns a handler for what watches over the program. It answers 200, and 503 for 10
// seconds after the medium has not taken an operation, unless it takes one before. It needs no token.
func (h *Handler) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t := h.failed.Load(); t != 0 && time.Since(time.Unix(0, t)) < 10*time.Second {
			respond(w, http.StatusServiceUnavailable, &result{Code: unavailable, Error: "the medium of the cluster did not take the last operation"})
			return
		}
		respond(w, http.StatusOK, &result{OK: true})
	})
}

// ServeHTTP answers a request whatever its path is.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Who sends or reads slowly does not keep a place, and who has no token no connection either: net/http
	// reads the rest of a body before it answers. What cannot have deadlines works without.
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(h.o.MaxTime))
	_ = c.SetWriteDeadline(time.Now().Add(2*h.o.MaxTime + time.Second))
	defer c.SetWriteDeadline(time.Time{})
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		respond(w, http.StatusMethodNotAllowed, &result{Code: wrongMethod, Error: "operations come by POST"})
		return
	}
	if err := h.allow(r); err != nil {
		if !h.o.Open {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		respond(w, http.StatusUnauthorized, &result{Code: unauthorized, Error: err.Error()})
		return
	}
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		w.Header().Set("Retry-After", "1")
		respond(w, http.StatusServiceUnavailable, &result{Code: busy, Error: fmt.Sprintf("%d requests are in work: try again", h.o.MaxRequests)})
		return
	}
	h.serve(w, r)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	lines, ok := format(r.Header.Get("Content-Type"))
	if !ok { // a form of another site's page could send anything else
		respond(w, http.StatusUnsupportedMediaType, &result{Code: wrongType, Error: "Content-Type must be application/json or application/x-ndjson"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			respond(w, http.StatusRequestEntityTooLarge, &result{Code: tooLarge, Error: fmt.Sprintf("a request may have %d bytes", h.o.MaxBody)})
		} else {
			respond(w, http.StatusBadRequest, &result{Code: invalid, Error: "the request ended too early"})
		}
		return
	}
	items, batch, err := parse(body, lines, h.o.MaxBatch)
	if err != nil {
		respond(w, http.StatusBadRequest, &result{Code: invalid, Error: err.Error()})
		return
	}
	if h.rate != nil && !h.rate.AllowN(time.Now(), len(items)) {
		w.Header().Set("Retry-After", "1")
		respond(w, http.StatusTooManyRequests, &result{Code: tooOften, Error: fmt.Sprintf("more than %g operations per second", h.o.Rate)})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.MaxTime)
	defer cancel()
	room := h.o.MaxAnswer
	if !batch {
		res := h.do(ctx, items[0], &room)
		respond(w, res.status(), &res)
		return
	}
	all := results{OK: true, Results: make([]result, len(items))}
	for i, it := range items {
		all.Results[i] = h.do(ctx, it, &room)
		all.OK = all.OK && all.Results[i].OK
	}
	status := http.StatusOK
	if !all.OK {
		status = http.StatusMultiStatus
	}
	respond(w, status, &all)
}

// format reports whether the type of content is one that we read, and whether it is lines.
func format(contentType string) (lines, ok bool) {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false, false
	}
	switch t {
	case "application/json":
		return false, true
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return true, true
	}
	return false, false
}

// allow says why a request may not emit.
func (h *Handler) allow(r *http.Request) error {
	if h.o.Open {
		if !loopback(r.RemoteAddr) || !loopback(r.Host) {
			return errors.New("without a token, only programs on this machine may emit, by its loopback address")
		}
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return errors.New("the request has no header `Authorization: Bearer TOKEN`")
	}
	given, known := sha256.Sum256([]byte(strings.TrimSpace(token))), 0
	for _, hash := range *h.tokens.Load() {
		known |= subtle.ConstantTimeCompare(given[:], hash[:])
	}
	if known == 0 {
		return errors.New("the token is not one of those that may emit")
	}
	return nil
}

// loopback reports whether an address, with or without a port, is this machine by name or number.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func respond(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // answers hold what others have sent
		status, b = http.StatusInternalServerError, []byte(`{"ok":false,"code":"internal","error":"an answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // whoever asked has left
}
