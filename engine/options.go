package engine

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// The transports.
const (
	Polling   = "polling"
	WebSocket = "websocket"
)

// Options are what a [Server] can be told. A nil *Options means the defaults,
// and so does each zero field; they are those of the official server.
type Options struct {
	// PingInterval is the pause between a pong and the next ping. If zero, 25 seconds.
	// If negative, the server never pings, and never finds a silent client gone.
	PingInterval time.Duration

	// PingTimeout is how long the server waits for a pong. If zero, 20 seconds.
	PingTimeout time.Duration

	// UpgradeTimeout is how long a client may take to change from polling to
	// WebSocket once it has opened the connection. If zero, 10 seconds.
	UpgradeTimeout time.Duration

	// MaxPayload is the largest message over WebSocket, and the largest body over
	// polling, in bytes. If zero, 1,000,000. The client is told.
	MaxPayload int

	// MaxQueue is how many bytes may wait for one client that does not take them.
	// A client that lets more pile up is cut off with a *LimitError. A single call
	// of Send may exceed it where nothing waits before it. If zero, 16 MiB.
	MaxQueue int

	// Transports are those that clients may use. If nil, Polling and WebSocket.
	Transports []string

	// DisableUpgrade keeps polling sessions on polling.
	DisableUpgrade bool

	// Tag is the part of each session id that names this node. If zero, a random one.
	Tag sid.Tag

	// CORS says which pages of other origins may use the server. If nil, none may.
	// It holds for all transports alike. Requests without an Origin header, which
	// do not come from a page, always pass.
	CORS *CORS

	// Cookie, where set, is the template of a cookie with the session id that is set
	// on the handshake of polling sessions, for load balancers. An empty Name means "io", an
	// empty Path "/", no SameSite "Lax"; [http.SameSiteDefaultMode] leaves SameSite out. Scripts
	// cannot read it: it is always HttpOnly. If nil, there is no cookie.
	Cookie *http.Cookie

	// Allow, where set, is asked for each new session before anything is made for it.
	// An error refuses the session with status 403 and the error's text as message.
	Allow func(r *http.Request) error

	// Foreign, where set, is asked for each request that names a session which is not here, once its origin and its
	// transport were looked at, and nothing but the headers of CORS was put into those of w. It returns
	// true if it has answered the request, and false where that is to be answered with ErrUnknownSID. It runs on the
	// goroutine of the request, and may take as long as the answer takes; see also [Server.RefuseUnknown].
	Foreign func(w http.ResponseWriter, r *http.Request, id string) bool

	// Carrier, where set, tells what brought a request that did not come from its client, nor from a
	// proxy, but was passed on by another server (see Foreign). nil says that none did. A poll that its
	// carrier broke off may be sent again by the proxy before it: it is not taken for the end of the session.
	Carrier func(r *http.Request) Carrier

	// Hold, where set, is asked at each handshake over polling that offers WebSocket: for how long is what the client
	// sends first kept back, counted from when it comes? So long the session can be given to another server, where the client's
	// WebSocket may arrive; see [Server.Release]. It is kept back for less where the WebSocket arrives here, where something is sent
	// to the client, and where it is more than some 8 KB. Zero or less means not at all. It must not block.
	Hold func() time.Duration

	// Headers, where set, may add to the headers of each response. initial is true
	// on the handshake. It is called with no lock held and may be called at once for several requests.
	Headers func(h http.Header, r *http.Request, initial bool)

	// CompressAbove is from how many bytes on the body of a poll is compressed, with gzip,
	// where the client takes that. If zero, 1024. If negative, bodies are never compressed.
	CompressAbove int

	// HandlerGrace is how long a Flush may run before another goroutine goes on reading
	// and what it has sent so far leaves. If zero, 5 milliseconds.
	HandlerGrace time.Duration

	// CloseGrace is how long a session that Close ended may take to fetch what is
	// queued for it. If zero, 5 seconds.
	CloseGrace time.Duration

	// Logger gets what an operator should see. If nil, slog.Default().
	Logger *slog.Logger
}

// Validate says what is wrong with the options. NewServer panics with what it returns.
func (o *Options) Validate() error {
	if o == nil {
		return nil
	}
	for _, t := range o.Transports {
		if t != Polling && t != WebSocket {
			return fmt.Errorf("engine: unknown transport %q in Options.Transports; there are %q and %q", t, Polling, WebSocket)
		}
	}
	if o.Transports != nil && len(o.Transports) == 0 {
		return fmt.Errorf("engine: Options.Transports is empty; leave it nil for all")
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"PingTimeout", o.PingTimeout}, {"UpgradeTimeout", o.UpgradeTimeout}, {"HandlerGrace", o.HandlerGrace}, {"CloseGrace", o.CloseGrace}} {
		if d.d < 0 {
			return fmt.Errorf("engine: Options.%s is negative", d.name)
		}
	}
	if o.PingInterval > 0 && o.PingInterval < time.Millisecond || o.PingTimeout > 0 && o.PingTimeout < time.Millisecond {
		return fmt.Errorf("engine: PingInterval and PingTimeout are told to clients in milliseconds; less than one is not possible")
	}
	if o.MaxPayload < 0 || o.MaxQueue < 0 || int64(o.MaxPayload) > math.MaxInt32 {
		return fmt.Errorf("engine: Options.MaxPayload must be 0 to %d bytes, MaxQueue not negative", math.MaxInt32)
	}
	if o.Cookie != nil {
		c := cookie(o.Cookie)
		c.Value = "x"
		if err := c.Valid(); err != nil {
			return fmt.Errorf("engine: Options.Cookie: %w", err)
		}
	}
	return o.CORS.validate()
}

// withDefaults returns a copy of o in which every field has its meaning.
func (o *Options) withDefaults() Options {
	var r Options
	if o != nil {
		r = *o
	}
	or(&r.PingInterval, 25*time.Second)
	or(&r.PingTimeout, 20*time.Second)
	or(&r.UpgradeTimeout, 10*time.Second)
	or(&r.MaxPayload, 1_000_000)
	or(&r.MaxQueue, 16<<20)
	or(&r.CompressAbove, 1024)
	or(&r.HandlerGrace, 5*time.Millisecond)
	or(&r.CloseGrace, 5*time.Second)
	if r.Transports == nil {
		r.Transports = []string{Polling, WebSocket}
	}
	r.Transports = slices.Clone(r.Transports)
	if r.Cookie != nil {
		r.Cookie = cookie(r.Cookie)
	}
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	if r.Tag == 0 {
		r.Tag, _ = sid.TagIn(sid.New(randomTag()))
	}
	return r
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
