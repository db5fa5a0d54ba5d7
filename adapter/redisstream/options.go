package redisstream

import (
	"log/slog"
	"strconv"
	"time"
	"unicode/utf16"
)

// Options are the settings of a Bus. A nil *Options means all defaults, which are those of the official adapter. All nodes
// and emitters of a cluster have the same, except where it says otherwise.
type Options struct {
	// StreamName is the key of the stream. If empty, "socket.io".
	StreamName string

	// StreamCount is how many streams the namespaces are spread over: with more than one, their keys are
	// StreamName + "-0" and so on. If zero, 1.
	StreamCount int

	// ChannelPrefix begins the names of all channels. If empty, "socket.io".
	ChannelPrefix string

	// MaxLen is about how many entries a stream keeps: Redis trims it when that is cheap. It limits how long
	// a node or a client may be away and miss nothing. If zero, 10,000. If negative, nothing is trimmed.
	MaxLen int64

	// ReadCount is how many entries are read at once, at most. If zero, 100. Each node may have its own.
	ReadCount int

	// BlockTime is how long one read waits in Redis for something new; it does not delay
	// anything. If zero, 5 seconds. Each node may have its own.
	BlockTime time.Duration

	// SessionKeyPrefix begins the keys of sessions. If empty, "sio:session:".
	SessionKeyPrefix string

	// UseShardedPubSub uses the sharded Pub/Sub of Redis 7 for the channels, so that in a Redis Cluster a message
	// passes one node of it only.
	UseShardedPubSub bool

	// OnlyPlaintext writes binary into the stream as Node.js writes a Buffer in JSON, in about four times its
	// size, instead of MessagePack.
	OnlyPlaintext bool

	// PublishTimeout is how long Publish waits for Redis to take a message, once, and a second more for each MiB of
	// it; after that, until Redis answers again, it fails at once. If zero, 1 second. Each node may have its own.
	PublishTimeout time.Duration

	// Logger is told when Redis goes and comes. If nil, slog.Default().
	Logger *slog.Logger
}

// withDefaults returns a copy of o in which every field has its value.
func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.StreamName == "" {
		c.StreamName = "socket.io"
	}
	if c.StreamCount <= 0 {
		c.StreamCount = 1
	}
	if c.ChannelPrefix == "" {
		c.ChannelPrefix = "socket.io"
	}
	if c.MaxLen == 0 {
		c.MaxLen = 10_000
	}
	if c.ReadCount <= 0 {
		c.ReadCount = 100
	}
	if c.BlockTime < time.Millisecond {
		c.BlockTime = 5 * time.Second
	}
	if c.SessionKeyPrefix == "" {
		c.SessionKeyPrefix = "sio:session:"
	}
	if c.PublishTimeout <= 0 {
		c.PublishTimeout = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// streamOf returns the index of the stream that a namespace is written to, and the key of another
// one that Node.js nodes write it to; that is empty where they write it to the same.
func (o *Options) streamOf(namespace string) (index int, stray string) {
	if o.StreamCount == 1 {
		return 0, ""
	}
	i := int(hashCode(namespace)) % o.StreamCount // truncated, as in JavaScript
	if i < 0 {
		return i + o.StreamCount, o.StreamName + "-" + strconv.Itoa(i)
	}
	return i, ""
}

// key returns the key of a stream.
func (o *Options) key(index int) string {
	if o.StreamCount == 1 {
		return o.StreamName
	}
	return o.StreamName + "-" + strconv.Itoa(index)
}

// hashCode is the hash by which the official adapter chooses a stream: of UTF-16, in 32 bits.
func hashCode(s string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(s)) {
		h = h*31 + int32(unit)
	}
	return h
}
