// Package event holds events with types: an event is declared once, as a constant,
// in a package that server, client and emitter import.
//
//	const (
//		Said   event.Name[Message]           = "said"
//		SignIn event.Request[Login, Session] = "sign in"
//	)
//
//	err := Said.Emit(ctx, room.To("lobby"), Message{...})
//	session, err := SignIn.Ask(ctx, sock, Login{User: "ada"})
//
// A type stands for the arguments of an event: most for one argument, None for
// none, Two, Three and other Tuples for several, and Args for whatever comes.
package event

import (
	"context"
	"iter"
)

// An Emitter sends an event to whom it stands for: a socket, a room, a namespace,
// all of a cluster. The arguments are encoded as Append does.
type Emitter interface {
	Emit(ctx context.Context, name string, args ...any) error
}

// An Asker sends an event to one receiver and waits for its answer.
type Asker interface {
	Ask(ctx context.Context, name string, args ...any) (Args, error)
}

// An AllAsker sends an event to many receivers and gives their answers one by one,
// as they come. An error stands for answers that are missing; others may follow it.
type AllAsker interface {
	AskAll(ctx context.Context, name string, args ...any) iter.Seq2[Args, error]
}

// A Name is the name of an event whose arguments are of type T.
type Name[T any] string

// Emit sends the event with v to to.
func (n Name[T]) Emit(ctx context.Context, to Emitter, v T) error {
	return to.Emit(ctx, string(n), Values(v)...)
}

// A Request is the name of an event with arguments of type T that is answered with
// arguments of type R.
type Request[T, R any] string

// Ask sends the event with v to to and waits for the answer.
func (r Request[T, R]) Ask(ctx context.Context, to Asker, v T) (R, error) {
	a, err := to.Ask(ctx, string(r), Values(v)...)
	if err != nil {
		var zero R
		return zero, err
	}
	return DecodeInto[R](a)
}

// AskAll sends the event with v to to and gives the answers one by one, as they
// come. An error stands for answers that are missing, or for one that is no R;
// others may follow it.
func (r Request[T, R]) AskAll(ctx context.Context, to AllAsker, v T) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for a, err := range to.AskAll(ctx, string(r), Values(v)...) {
			var answer R
			if err == nil {
				answer, err = DecodeInto[R](a)
			}
			if !yield(answer, err) {
				return
			}
		}
	}
}
