package event

// None stands for no arguments.
type None struct{}

// A Tuple is a type that stands for several arguments. A struct T becomes one
// with a method on *T that returns pointers to its fields, in the order of the
// arguments:
//
//	func (p *Point) Fields() []any { return []any{&p.X, &p.Y} }
//
// A field of type Args in the last place takes all further arguments.
type Tuple interface {
	Fields() []any
}

// Two stands for two arguments.
type Two[A, B any] struct {
	A A
	B B
}

// Fields returns pointers to the arguments.
func (t *Two[A, B]) Fields() []any { return []any{&t.A, &t.B} }

// Three stands for three arguments.
type Three[A, B, C any] struct {
	A A
	B B
	C C
}

// Fields returns pointers to the arguments.
func (t *Three[A, B, C]) Fields() []any { return []any{&t.A, &t.B, &t.C} }

// Values returns the arguments that v stands for, ready for Append.
func Values[T any](v T) []any {
	switch t := any(&v).(type) {
	case *None:
		return nil
	case Tuple:
		return t.Fields()
	}
	return []any{v}
}

// DecodeInto decodes a into the type that stands for its arguments. It is as
// lenient as Args.DecodeAll: what is missing is left at its zero value.
func DecodeInto[T any](a Args) (T, error) {
	var v T
	var err error
	switch t := any(&v).(type) {
	case *None:
	case *Args:
		*t = a
	case Tuple:
		err = a.DecodeAll(t.Fields()...)
	default:
		err = a.Decode(0, &v)
	}
	return v, err
}
