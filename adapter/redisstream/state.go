package redisstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"
)

// A state is what Redis knows of a stream.
type state struct {
	first   id    // of the first entry that is kept; zero where there is none
	last    id    // of the last that was ever added
	deleted id    // the highest that was deleted one by one (XDEL), not trimmed
	length  int64 // entries that are kept
	added   int64 // entries that were ever added; -1 where Redis is too old to know
}

// stateScript answers with the state of a stream. With an argument it makes a stream where there is none, by an entry
// that is for nobody: so that there is an id that tells this stream from a later one of that name.
var stateScript = rueidis.NewLuaScriptRetryable(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  if not ARGV[1] then return {'0-0', '', 0, 0, '0-0'} end
  redis.call('XADD', KEYS[1], '*', 'atoll', 'begin')
end
local r = redis.call('XINFO', 'STREAM', KEYS[1])
local m = {}
for i = 1, #r, 2 do m[r[i]] = r[i + 1] end
local first = m['first-entry']
return {m['last-generated-id'], first and first[1] or '', m['length'], m['entries-added'] or -1, m['max-deleted-entry-id'] or '0-0'}
`)

// state asks for the state of a stream, and makes the stream first where that is asked for.
func (b *Bus) state(ctx context.Context, key string, create bool) (s state, err error) {
	var argv []string
	if create {
		argv = []string{"create"}
	}
	r, err := stateScript.Exec(ctx, b.client, []string{key}, argv).ToArray()
	if err != nil {
		return s, err
	}
	if len(r) != 5 {
		return s, errors.New("a state that is none")
	}
	for i, p := range map[int]*id{0: &s.last, 1: &s.first, 4: &s.deleted} {
		text, err := r[i].ToString()
		if err != nil {
			return s, err
		}
		var ok bool
		if *p, ok = parseID(text); !ok && text != "" {
			return s, fmt.Errorf("%q is no id of a stream", text)
		}
	}
	if s.length, err = r[2].AsInt64(); err == nil {
		s.added, err = r[3].AsInt64()
	}
	return s, err
}

// keeps reports whether all entries behind a place are kept. Where entries were trimmed and the place is among them,
// the answer is no, since nobody knows whether it was the last of them.
func (s *state) keeps(at id) bool {
	switch {
	case s.last.before(at):
		return false // a place in another stream
	case at == s.last:
		return true
	case at.before(s.deleted):
		return false
	case s.length > 0 && !at.before(s.first.previous()):
		return true
	default:
		return at == id{} && s.added == s.length
	}
}

// gone returns how many entries behind a place are not kept, where the place is that of the entry with the given
// number, the first being 1; number is -1 where it is not known. It returns -1 where that cannot be told.
func (s *state) gone(at id, number int64) int64 {
	switch {
	case s.keeps(at):
		return 0
	case number < 0 || s.added < 0 || s.deleted != id{} || s.last.before(at):
		return -1
	default:
		return max(0, s.added-s.length-number)
	}
}
