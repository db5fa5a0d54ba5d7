package recovery

import (
	"encoding/json"
	"time"
)

// Options say how a server recovers its sockets. A nil *Options in atoll.Options means that it does
// not; the zero value is ready.
type Options struct {
	// MaxDisconnection is how long a client may be away and still find its session. If zero, 2 minutes.
	MaxDisconnection time.Duration

	// SkipMiddlewares lets recovered sockets in without asking the middlewares again. The default
	// is to ask them, so that whoever lost a right meanwhile does not get in; the
	// official server's default is the opposite.
	SkipMiddlewares bool

	// Refresh is the pause after which the session of a connected socket is written again
	// where nothing changed, so that its time is never up. The log must reach back
	// Refresh + MaxDisconnection at least. If zero, a quarter of MaxDisconnection, and one
	// second at least.
	Refresh time.Duration

	// DecodeData makes of the JSON of a socket's data what Socket.Data returns after recovery. If nil,
	// it is decoded as encoding/json decodes into an any. An error is logged, and Data
	// returns nil then.
	DecodeData func(data []byte) (any, error)

	// Sessions keeps the sessions instead of the cluster's bus, or of memory. It must be shared by
	// all nodes of the cluster. If nil, the bus does where it can.
	Sessions Sessions

	// Memory configures what is kept in memory, where the server has no cluster or one
	// whose bus keeps nothing. Then a client is recovered only where it comes back to the same
	// node. Its MaxAge, if zero, is Refresh + MaxDisconnection.
	Memory MemoryOptions
}

// WithDefaults returns a copy of o in which every field has its value, except Sessions.
func (o *Options) WithDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.MaxDisconnection <= 0 {
		c.MaxDisconnection = 2 * time.Minute
	}
	if c.Refresh <= 0 {
		c.Refresh = max(c.MaxDisconnection/4, time.Second)
	}
	if c.DecodeData == nil {
		c.DecodeData = func(data []byte) (v any, err error) {
			err = json.Unmarshal(data, &v)
			return v, err
		}
	}
	if c.Memory.MaxAge <= 0 {
		c.Memory.MaxAge = c.Refresh + c.MaxDisconnection
	}
	return c
}
