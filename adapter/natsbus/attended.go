package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/atollhq/atoll/cluster"
)

// attendedHeader tells a question from what Publish and Append send.
const attendedHeader = "Atoll-Attended"

// attendedWithin is how long a server may take to say that nobody is there. It does not wait for anybody else.
const attendedWithin = 250 * time.Millisecond

// Attended implements cluster.Attender: a question on the topic comes back at once where no connection of the NATS cluster subscribes
// to it. Who subscribes answers it; one that is slow makes it end with an error.
func (b *Bus) Attended(ctx context.Context, topic string) (bool, error) {
	if err := b.ready(); err != nil {
		return false, err
	}
	if !b.conn.HeadersSupported() {
		return false, fmt.Errorf("natsbus: the server does not say whether anybody subscribes: %w", cluster.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, attendedWithin)
	defer cancel()
	question := nats.NewMsg(subject(topic))
	question.Header.Set(attendedHeader, "1")
	switch _, err := b.conn.RequestMsgWithContext(ctx, question); {
	case err == nil:
		return true, nil
	case errors.Is(err, nats.ErrNoResponders):
		return false, nil
	default:
		return false, fmt.Errorf("natsbus: whether anybody subscribes: %w", b.explain(err))
	}
}
