package redisstream

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/internal/msgpack"
	"github.com/atollhq/atoll/recovery"
)

// A session's revision is the SHA-1 of what is stored, which Redis can compute too. Each state that is stored has
// a random token in it, so that no two are the same.

const updateText = `
local v = redis.call('GET', KEYS[1])
if not v or redis.sha1hex(v) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
`

var (
	// updateScript stores ARGV[2] for ARGV[3] milliseconds if what is there has the revision ARGV[1].
	updateScript = rueidis.NewLuaScript(updateText)
	updateHash   = hashOf(updateText)

	// dropScript removes what is there if it has the revision ARGV[1].
	dropScript = rueidis.NewLuaScript(`
local v = redis.call('GET', KEYS[1])
if v and redis.sha1hex(v) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`)
)

func hashOf(s string) string {
	sum := sha1.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// updatesAtOnce is how many sessions are written in one go.
const updatesAtOnce = 256

func (b *Bus) sessionKey(pid string) string { return b.o.SessionKeyPrefix + pid }

// Create stores s for ttl, at least a millisecond, in the format of the official adapter: a Node.js node can take it.
func (b *Bus) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	value, revision, err := encodeSession(s)
	if err != nil {
		return fmt.Errorf("redisstream: session: %w", err)
	}
	ctx, cancel := b.limit(ctx)
	defer cancel()
	cmd := b.client.B().Arbitrary("SET").Keys(b.sessionKey(s.PID)).Args(value, "PX", milliseconds(ttl)).Build()
	if err := b.client.Do(ctx, cmd).Error(); err != nil {
		return fmt.Errorf("redisstream: session: %w", err)
	}
	s.Revision = revision
	return nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// Update stores the states of ss, those apart whose stored state is not the one that this node wrote last.
func (b *Bus) Update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	if b.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := b.limit(ctx)
	defer cancel()
	var errs []error
	for len(ss) > 0 {
		n := min(len(ss), updatesAtOnce)
		gone, err := b.update(ctx, ss[:n], ttl)
		taken = append(taken, gone...)
		errs = append(errs, err)
		ss = ss[n:]
	}
	if err := errors.Join(errs...); err != nil {
		return taken, fmt.Errorf("redisstream: session: %w", err)
	}
	return taken, nil
}

func (b *Bus) update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) (taken []*recovery.Session, err error) {
	cmds := make(rueidis.Commands, len(ss))
	argv := make([][]string, len(ss))
	revisions := make([]string, len(ss))
	for i, s := range ss {
		value, revision, err := encodeSession(s)
		if err != nil {
			return nil, err
		}
		argv[i] = []string{s.Revision, value, milliseconds(ttl)}
		revisions[i] = revision
		cmds[i] = b.client.B().Evalsha().Sha1(updateHash).Numkeys(1).Key(b.sessionKey(s.PID)).Arg(argv[i]...).Build()
	}
	var errs []error
	for i, answer := range b.client.DoMulti(ctx, cmds...) {
		if e, ok := rueidis.IsRedisErr(answer.Error()); ok && e.IsNoScript() {
			answer = updateScript.Exec(ctx, b.client, []string{b.sessionKey(ss[i].PID)}, argv[i])
		}
		switch stored, err := answer.AsInt64(); {
		case err != nil:
			errs = append(errs, err)
		case stored == 1:
			ss[i].Revision = revisions[i]
		default:
			taken = append(taken, ss[i])
		}
	}
	return taken, errors.Join(errs...)
}

// Take returns a session and removes it, also one that a Node.js node stored.
func (b *Bus) Take(ctx context.Context, pid string) (*recovery.Session, error) {
	if b.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := b.limit(ctx)
	defer cancel()
	value, err := b.client.Do(ctx, b.client.B().Getdel().Key(b.sessionKey(pid)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return nil, fmt.Errorf("redisstream: session: %w", recovery.ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("redisstream: session: %w", err)
	}
	s, err := decodeSession(value)
	if err != nil {
		return nil, fmt.Errorf("redisstream: session: %w: what is stored cannot be read: %w", recovery.ErrUnknown, err)
	}
	s.PID = pid
	return s, nil
}

// Drop removes s, if what is stored is the state that this node wrote last.
func (b *Bus) Drop(ctx context.Context, s *recovery.Session) error {
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := b.limit(ctx)
	defer cancel()
	if err := dropScript.Exec(ctx, b.client, []string{b.sessionKey(s.PID)}, []string{s.Revision}).Error(); err != nil {
		return fmt.Errorf("redisstream: session: %w", err)
	}
	return nil
}

// The fields of a session that Node.js nodes do not read.
const (
	fieldNamespace = "nsp"
	fieldOffset    = "offset"
	fieldLast      = "last"
	fieldStart     = "start"
	fieldNoData    = "noData"
	fieldToken     = "token"
)

// encodeSession returns what is stored: base64 of a map in MessagePack.
func encodeSession(s *recovery.Session) (value, revision string, err error) {
	extra := [][2]string{
		{fieldNamespace, s.Namespace}, {fieldOffset, s.Offset}, {fieldLast, s.Last}, {fieldStart, s.Start}, {fieldToken, rand.Text()},
	}
	fields := uint32(4)
	for _, x := range extra {
		if x[1] != "" {
			fields++
		}
	}
	data := s.Data
	if len(data) == 0 {
		data = []byte("{}") // what socket.data is where nobody set it
		fields++
	}
	b := msgp.AppendMapHeader(make([]byte, 0, len(data)+32*len(s.Rooms)+256), fields)
	b = msgp.AppendString(msgp.AppendString(b, "sid"), s.SID)
	b = msgp.AppendString(msgp.AppendString(b, "pid"), s.PID)
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "rooms"), uint32(len(s.Rooms)))
	for _, room := range s.Rooms {
		b = msgp.AppendString(b, room)
	}
	if b, err = msgpack.AppendFromBufferJSON(msgp.AppendString(b, "data"), data); err != nil {
		return "", "", fmt.Errorf("the data of a socket is no JSON: %w", err)
	}
	for _, x := range extra {
		if x[1] != "" {
			b = msgp.AppendString(msgp.AppendString(b, x[0]), x[1])
		}
	}
	if len(s.Data) == 0 {
		b = msgp.AppendBool(msgp.AppendString(b, fieldNoData), true)
	}
	value = base64.StdEncoding.EncodeToString(b)
	return value, hashOf(value), nil
}

// decodeSession is the inverse of encodeSession, and reads what a Node.js node stored.
func decodeSession(value string) (*recovery.Session, error) {
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, err
	}
	s := &recovery.Session{Revision: hashOf(value)}
	texts := map[string]*string{
		"sid": &s.SID, fieldNamespace: &s.Namespace, fieldOffset: &s.Offset, fieldLast: &s.Last, fieldStart: &s.Start,
	}
	none := false
	n, b, err := msgp.ReadMapHeaderBytes(b)
	for ; err == nil && n > 0; n-- {
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			break
		}
		switch p := texts[string(key)]; {
		case p != nil && msgp.NextType(b) == msgp.StrType:
			*p, b, err = msgp.ReadStringBytes(b)
		case string(key) == "rooms":
			s.Rooms, b, err = readRooms(b)
		case string(key) == "data":
			s.Data, b, err = msgpack.AppendBufferJSON(nil, b)
		case string(key) == fieldNoData:
			none = true
			b, err = msgp.Skip(b)
		default:
			b, err = msgp.Skip(b)
		}
	}
	if none {
		s.Data = nil
	}
	if err == nil && s.SID == "" {
		err = errors.New("a session without a socket")
	}
	return s, err
}

// readRooms reads an array of rooms. A number, which Node.js has rooms of, becomes its text.
func readRooms(b []byte) (rooms []string, rest []byte, err error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil || n > uint32(len(b)) {
		return nil, b, errors.Join(err, errors.New("rooms are an array"))
	}
	for range n {
		var room string
		if msgp.NextType(b) == msgp.StrType {
			room, b, err = msgp.ReadStringBytes(b)
		} else {
			var text []byte
			text, b, err = msgpack.AppendBufferJSON(nil, b)
			room = string(text)
		}
		if err != nil {
			return nil, b, err
		}
		rooms = append(rooms, room)
	}
	return rooms, b, nil
}
