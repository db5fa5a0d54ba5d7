package atoll

import (
	"context"

	"github.com/atollhq/atoll/event"
)

// On handles an event with a typed argument:
//
//	atoll.On(room, chat.Said, func(ctx context.Context, s *atoll.Socket, m chat.Message) error { … })
//	atoll.On(room, "typing", func(ctx context.Context, s *atoll.Socket, who string) error { … })
//
// How a T is read from the event's arguments is package event's to say. An event whose
// arguments do not fit is logged and dropped. If the client asked for an ack, it gets an
// empty one once the handler has returned nil.
func On[T any](r Registrar, name event.Name[T], f func(ctx context.Context, s *Socket, v T) error) {
	r.Handle(string(name), func(ctx context.Context, s *Socket, e *Event) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		if err := f(ctx, s, v); err != nil {
			return err
		}
		if e.WantsReply() {
			return e.Reply()
		}
		return nil
	})
}

// Answer handles a request: an event whose ack is f's result. A client that asked for no
// ack gets none. To answer an error in words of the application, return a *ReplyError.
func Answer[T, R any](r Registrar, name event.Request[T, R], f func(ctx context.Context, s *Socket, v T) (R, error)) {
	r.Handle(string(name), func(ctx context.Context, s *Socket, e *Event) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		reply, err := f(ctx, s, v)
		if err != nil {
			return err
		}
		if e.WantsReply() {
			return e.Reply(event.Values(reply)...)
		}
		return nil
	})
}

// OnServer handles an event that another node sends with ServerSide.Emit.
func OnServer[T any](r ServerRegistrar, name event.Name[T], f func(ctx context.Context, v T) error) {
	r.HandleServer(string(name), func(ctx context.Context, e *ServerEvent) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		return f(ctx, v)
	})
}

// AnswerServer handles a request that another node sends with ServerSide.AskAll.
func AnswerServer[T, R any](r ServerRegistrar, name event.Request[T, R], f func(ctx context.Context, v T) (R, error)) {
	r.HandleServer(string(name), func(ctx context.Context, e *ServerEvent) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		reply, err := f(ctx, v)
		if err != nil || !e.WantsReply() {
			return err
		}
		return e.Reply(event.Values(reply)...)
	})
}
