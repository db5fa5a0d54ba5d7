package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The transports.
const (
	Polling   = "polling"
	WebSocket = "websocket"
)

// Options are how a client behaves. A nil *Options means the defaults, which are those
// of the official client.
type Options struct {
	// Namespace is where to connect to. If empty, the path of the URL is the namespace.
	Namespace string

	// Path is the path of the server's HTTP endpoint. If empty, "/socket.io/".
	Path string

	// Auth is sent to the server when the namespace is entered: what encodes as
	// a JSON object. If nil, nothing is sent.
	Auth any

	// AuthFunc, where set, is asked for what to send in place of Auth, each time that the
	// namespace is entered. Its error ends the attempt. It must heed ctx.
	AuthFunc func(ctx context.Context) (any, error)

	// Transports are those to use: the connection is made over the first, and moves
	// from polling to WebSocket where both are allowed. If nil, Polling and WebSocket.
	Transports []string

	// Query is added to the query of each request, and so is the query of the URL.
	Query url.Values

	// Header is added to the headers of each request. A Host in it is ignored.
	Header http.Header

	// Jar keeps cookies. If nil, they are forgotten.
	Jar http.CookieJar

	// Transport performs the requests of long-polling. If nil, one that uses
	// DialContext and TLS, and is closed with the client.
	Transport http.RoundTripper

	// DialContext makes the connections of WebSockets, and of polling unless Transport
	// is set. If nil, a net.Dialer does.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// TLS is for https and wss. If nil, the server's certificate is verified as usual.
	TLS *tls.Config

	// ConnectTimeout is how long one attempt to open a connection may take. If zero, 20
	// seconds. If negative, there is no limit.
	ConnectTimeout time.Duration

	// RetryConnect makes Connect go on trying, with the pauses of reconnection, where
	// it would otherwise return with the first failure.
	RetryConnect bool

	// DisableReconnect keeps the client from connecting again when the connection breaks.
	DisableReconnect bool

	// ReconnectAttempts is after how many failures in a row the client gives up. If zero, it never does.
	ReconnectAttempts int

	// ReconnectDelay is the pause before the first attempt to reconnect; each further
	// one is twice as long. If zero, 1 second.
	ReconnectDelay time.Duration

	// ReconnectDelayMax is the longest pause. If zero, 5 seconds.
	ReconnectDelayMax time.Duration

	// Jitter is by which part of itself, at most, a pause is made longer or shorter at
	// random, so that many clients do not come back at once; up to 1. If zero, 0.5. If negative, none.
	Jitter float64

	// AckTimeout is how long Ask waits where its context has no deadline. If zero, 30
	// seconds. If negative, it waits as long as it takes.
	AckTimeout time.Duration

	// MaxBuffer is how many bytes may wait to be sent, while the client is away or the
	// server does not read; each packet counts 128 bytes more than its size. If zero, 16 MiB.
	MaxBuffer int

	// MaxInbox is how many bytes of received events may wait for the handlers of a
	// namespace, counted likewise. A server that sends more is disconnected from. If zero, 64 MiB.
	MaxInbox int

	// MaxRead is the largest message over WebSocket, and the largest body over polling,
	// in bytes, that the client takes. If zero, 64 MiB.
	MaxRead int

	// MaxAttachments is how many binary attachments a packet may have. If zero, 10.
	MaxAttachments int

	// Logger gets what handlers return, and what nobody else is told. If nil, slog.Default().
	Logger *slog.Logger
}

// config is Options with every field set, and what follows from the URL.
type config struct {
	Options
	url       *url.URL // of the endpoint, with the query of each request
	namespace string
	client    *http.Client
	own       *http.Transport // the transport of client where it is ours
}

// newConfig reads the URL and fills in the defaults.
func newConfig(rawURL string, o *Options) (*config, error) {
	c := new(config)
	if o != nil {
		c.Options = *o
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	case "http", "https":
	default:
		return nil, fmt.Errorf("client: the URL %q should begin with http://, https://, ws:// or wss://", rawURL)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("client: the URL %q names no host", rawURL)
	}
	c.namespace = cleanName(c.Namespace)
	if c.Namespace == "" {
		c.namespace = cleanName(u.Path)
	}
	q := u.Query()
	for k, vs := range c.Query {
		q[k] = append(q[k], vs...)
	}
	q.Set("EIO", "4")
	u.RawQuery, u.Fragment = q.Encode(), ""
	or(&c.Path, "/socket.io/")
	if !strings.HasPrefix(c.Path, "/") {
		c.Path = "/" + c.Path
	}
	u.Path, u.RawPath = c.Path, ""
	c.url = u
	return c, c.defaults()
}

func (c *config) defaults() error {
	if c.Transports == nil {
		c.Transports = []string{Polling, WebSocket}
	}
	if len(c.Transports) == 0 {
		return errors.New("client: Options.Transports is empty; leave it nil for all")
	}
	c.Transports = slices.Clone(c.Transports)
	for _, t := range c.Transports {
		if t != Polling && t != WebSocket {
			return fmt.Errorf("client: unknown transport %q in Options.Transports; there are %q and %q", t, Polling, WebSocket)
		}
	}
	if c.Jitter > 1 {
		return errors.New("client: Options.Jitter is greater than 1")
	}
	or(&c.Jitter, 0.5)
	or(&c.ConnectTimeout, 20*time.Second)
	or(&c.ReconnectDelay, time.Second)
	or(&c.ReconnectDelayMax, 5*time.Second)
	or(&c.AckTimeout, 30*time.Second)
	or(&c.MaxBuffer, 16<<20)
	or(&c.MaxInbox, 64<<20)
	or(&c.MaxRead, 64<<20)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.DialContext == nil {
		c.DialContext = new(net.Dialer).DialContext
	}
	rt := c.Transport
	if rt == nil {
		c.own = &http.Transport{DialContext: c.DialContext, TLSClientConfig: c.TLS, IdleConnTimeout: time.Minute}
		rt = c.own
	}
	c.client = &http.Client{Transport: rt, Jar: c.Jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return nil
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// cleanName gives a namespace's name its slash.
func cleanName(name string) string {
	if !strings.HasPrefix(name, "/") {
		return "/" + name
	}
	return name
}

// endpoint returns the URL of a request over the transport, for the session with the given id.
func (c *config) endpoint(transport, sid string) *url.URL {
	u := *c.url
	u.RawQuery += "&transport=" + transport
	if sid != "" {
		u.RawQuery += "&sid=" + url.QueryEscape(sid)
	}
	return &u
}
