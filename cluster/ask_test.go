package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// A lastMoment is a context that ends when armed, and at that moment an answer comes.
type lastMoment struct {
	context.Context
	armed  *bool
	answer func()
}

func (c lastMoment) Deadline() (time.Time, bool) { return time.Now().Add(time.Minute), true }

func (c lastMoment) Err() error {
	if !*c.armed {
		return nil
	}
	c.answer()
	return context.DeadlineExceeded
}

func (lastMoment) Value(any) any { return nil }

// nowhere is a bus that brings nothing to anybody.
type nowhere struct{}

func (nowhere) Publish(context.Context, string, []byte) error { return nil }
func (nowhere) Subscribe(context.Context, string, func(string, []byte)) (Subscription, error) {
	return nowhere{}, nil
}
func (nowhere) Close() error { return nil }

func TestAskLastMoment(t *testing.T) {
	n, err := Join(t.Context(), nowhere{}, &Options{Settle: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.heard(&Message{From: "b", Life: 1, Member: &Member{Name: "b"}})
	armed := true
	ctx := lastMoment{context.Background(), &armed, func() {
		armed = false
		for id := range n.questions {
			n.answered(&Message{From: "b", Request: id, Answer: &Answer{First: true, Clients: 7}}, 1)
		}
	}}
	answers, got := 0, error(nil)
	for a, err := range n.Ask(ctx, &Op{Kind: Count, Namespace: "/"}) {
		if err != nil {
			got = err
		} else if a.Clients == 7 {
			answers++
		}
	}
	if answers != 1 || got != nil {
		t.Errorf("got %d answers and error %v, want the one that came at the last moment", answers, got)
	}
}
