package engine

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/internal/sid"
)

func randomTag() sid.Tag { return 1 }

type CORS struct {
	Origins        []string
	OriginFunc     func(origin string, r *http.Request) bool
	Credentials    bool
	Methods        []string
	Headers        []string
	ExposedHeaders []string
	MaxAge         time.Duration
}

func (c *CORS) validate() error { return nil }

type Handler interface {
	Message(data []byte, binary bool)
	Flush()
	Closed(cause error)
}

type Handshake struct {
	Header     http.Header
	Host       string
	URL        *url.URL
	RemoteAddr string
	Time       time.Time
	Secure     bool
	Protocol   int
}

type Stats struct{ Sessions int }
type Server struct{}

func NewServer(accept func(c *Conn) (Handler, error), o *Options) *Server { return &Server{} }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}
func (s *Server) Shutdown(ctx context.Context) error               { return nil }
func (s *Server) Close() error                                     { return nil }
func (s *Server) Stats() Stats                                     { return Stats{} }

type Conn struct{}

var errStub = errors.New("stub")

func (c *Conn) ID() string                          { return "" }
func (c *Conn) Handshake() *Handshake               { return &Handshake{} }
func (c *Conn) Transport() string                   { return "" }
func (c *Conn) Send(ps ...wire.Packet) error        { return errStub }
func (c *Conn) SendVolatile(ps ...wire.Packet) bool { return false }
func (c *Conn) Close(cause error)                   {}
func (c *Conn) Handoff()                            {}
func (c *Conn) Queued() int                         { return 0 }
