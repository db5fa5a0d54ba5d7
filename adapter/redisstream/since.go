package redisstream

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
)

// End returns the id of the last entry of the stream that holds topic, and makes the stream where there is none.
func (b *Bus) End(ctx context.Context, topic string) (offset string, err error) {
	namespace, ok := strings.CutPrefix(topic, keptTopic)
	if !ok {
		return "", fmt.Errorf("redisstream: end: topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	index, _ := b.o.streamOf(namespace)
	if b.ctx.Err() != nil {
		return "", ErrClosed
	}
	ctx, cancel := b.limit(ctx)
	defer cancel()
	st, err := b.state(ctx, b.o.key(index), true)
	if err != nil {
		return "", fmt.Errorf("redisstream: end: %w", err)
	}
	return st.last.String(), nil
}

// Compare returns -1, 0 or 1 where the id a is before, at or behind b. What is no id is before all ids.
func (b *Bus) Compare(x, y string) int {
	i, ok1 := parseID(x)
	j, ok2 := parseID(y)
	switch {
	case ok1 && ok2:
		return i.compare(j)
	case ok1:
		return 1
	case ok2:
		return -1
	default:
		return strings.Compare(x, y)
	}
}

// Since yields the entries of topic's namespace behind offset, up to the last one when it was called. It reads
// Options.ReadCount entries of the stream at once.
func (b *Bus) Since(ctx context.Context, topic, offset string) iter.Seq2[cluster.Record, error] {
	return func(yield func(cluster.Record, error) bool) {
		if err := b.since(ctx, topic, offset, func(r cluster.Record) bool { return yield(r, nil) }); err != nil {
			yield(cluster.Record{}, fmt.Errorf("redisstream: since %q: %w", offset, err))
		}
	}
}

func (b *Bus) since(ctx context.Context, topic, offset string, yield func(cluster.Record) bool) error {
	namespace, ok := strings.CutPrefix(topic, keptTopic)
	if !ok {
		return fmt.Errorf("topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	at, ok := parseID(offset)
	if !ok {
		return fmt.Errorf("no id of a stream: %w", cluster.ErrTrimmed)
	}
	index, _ := b.o.streamOf(namespace)
	key := b.o.key(index)
	limited, cancel := b.limit(ctx)
	defer cancel()
	st, err := b.state(limited, key, false)
	if err != nil {
		return err
	}
	if !st.keeps(at) {
		return cluster.ErrTrimmed
	}
	end, count := st.last, int64(b.o.ReadCount)
	for at.before(end) {
		entries, st, err := b.page(ctx, key, at, end, count)
		if err != nil {
			return err
		}
		if !st.keeps(at) {
			return cluster.ErrTrimmed
		}
		size := 0
		for _, e := range entries {
			if at, ok = parseID(e.ID); !ok {
				return fmt.Errorf("%q is no id of a stream", e.ID)
			}
			nsp, data := join(e.FieldValues)
			size += len(data)
			if nsp == namespace && !yield(cluster.Record{Offset: e.ID, Data: data}) {
				return nil
			}
		}
		if int64(len(entries)) < count {
			return nil
		}
		count = min(max(int64(maxBatch/(size/len(entries)+1)), 1), int64(b.o.ReadCount))
	}
	return nil
}

// page reads some entries behind a place, and then the state of the stream: what is kept then was kept when they were read.
func (b *Bus) page(ctx context.Context, key string, behind, end id, count int64) (entries []rueidis.XRangeSlice, st state, err error) {
	ctx, cancel := b.limit(ctx)
	defer cancel()
	cmd := b.client.B().Xrange().Key(key).Start("(" + behind.String()).End(end.String()).Count(count).Build()
	if entries, err = b.client.Do(ctx, cmd).AsXRangeSlices(); err == nil {
		st, err = b.state(ctx, key, false)
	}
	return entries, st, err
}
