package event_test

import (
	"context"
	"errors"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hole = `{"_placeholder":true,"num":`

func args(t testing.TB, values ...any) event.Args {
	t.Helper()
	a, err := event.NewArgs(values...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAppendEvent(t *testing.T) {
	inner := args(t, 1, []byte("a"), map[string]any{"k": []byte("b")})
	var rest event.Args
	if err := inner.DecodeAll(nil, nil, &rest); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		values []any
		want   string
		att    []string
	}{
		{"none", nil, `["n"]`, nil},
		{"several", []any{1, "x", nil, []int{2}}, `["n",1,"x",null,[2]]`, nil},
		{"binary", []any{[]byte("a"), "x", []any{[]byte("b")}}, `["n",` + hole + `0},"x",[` + hole + `1}]]`, []string{"a", "b"}},
		{"args", []any{"x", inner, []byte("c")}, `["n","x",1,` + hole + `0},{"k":` + hole + `1}},` + hole + `2}]`, []string{"a", "b", "c"}},
		{"args behind binary", []any{[]byte("c"), &inner}, `["n",` + hole + `0},1,` + hole + `1},{"k":` + hole + `2}}]`, []string{"c", "a", "b"}},
		{"args twice", []any{inner, inner}, `["n",1,` + hole + `0},{"k":` + hole + `1}},1,` + hole + `2},{"k":` + hole + `3}}]`, []string{"a", "b", "a", "b"}},
		{"some of the args", []any{rest}, `["n",{"k":` + hole + `0}}]`, []string{"b"}},
		{"no args", []any{event.Args{}, 1, &event.Args{}}, `["n",1]`, nil},
		{"nil args", []any{(*event.Args)(nil)}, `["n",null]`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, att, err := event.AppendEvent([]byte("x"), nil, "n", tt.values...)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "x"+tt.want {
				t.Errorf("got %s, want x%s", got, tt.want)
			}
			if diff := cmp.Diff(tt.att, texts(att)); diff != "" {
				t.Errorf("attachments: want -, got +:\n%s", diff)
			}
		})
	}
	if got, _, err := event.AppendEvent(nil, nil, "a\"\n\u2028\xff"); err != nil || string(got) != "[\"a\\\"\\n\u2028\ufffd\"]" {
		t.Errorf("got %s, %v", got, err)
	}
}

func texts(att [][]byte) (list []string) {
	for _, b := range att {
		list = append(list, string(b))
	}
	return list
}

func TestAppendErrorNamesTheArgument(t *testing.T) {
	dst, att, err := event.Append([]byte("x"), [][]byte{{1}}, 1, []byte("y"), []float64{math.NaN()})
	if err == nil || !strings.Contains(err.Error(), "argument 2") || string(dst) != "x" || len(att) != 1 {
		t.Errorf("got %s, %v, %v, want an error that names argument 2", dst, att, err)
	}
}

// A client that sends what looks like a placeholder cannot have the binary values of others put there.
func TestForgedPlaceholder(t *testing.T) {
	forged := event.ArgsOf([]byte(hole+`0},{"x":`+hole+`1}}`), nil)
	if raw, att, err := event.Append(nil, nil, forged); err != nil || len(att) != 0 {
		t.Errorf("got %s, %v, %v, want it unchanged where nothing is binary", raw, att, err)
	}
	var v any
	if err := forged.Decode(0, &v); err != nil {
		t.Fatal(err)
	}
	for _, values := range [][]any{
		{forged, []byte("secret")},
		{[]byte("secret"), forged},
		{v, []byte("secret")},
		{event.ArgsOf([]byte(`{"\u005fplaceholder":true,"num":0}`), nil), []byte("secret")},
		{event.ArgsOf([]byte(`{"_placeholder":true,"num":0,"more":1}`), nil), []byte("secret")},
		{event.ArgsOf([]byte(hole+`7}`), [][]byte{{1}})},
	} {
		if raw, att, err := event.Append(nil, nil, values...); err == nil {
			t.Errorf("got %s, %q, want an error", raw, att)
		}
	}
}

func TestArgs(t *testing.T) {
	a := args(t, "x", 2, []byte("bin"), map[string]any{"k": []any{1.0, "]"}})
	if got := a.Len(); got != 4 {
		t.Errorf("got %d, want 4", got)
	}
	var s string
	var n int
	var b []byte
	var m map[string]any
	var more = "untouched"
	if err := a.DecodeAll(&s, &n, &b, &m, &more); err != nil {
		t.Fatal(err)
	}
	if s != "x" || n != 2 || string(b) != "bin" || m["k"].([]any)[1] != "]" || more != "untouched" {
		t.Errorf("got %q %d %q %v %q", s, n, b, m, more)
	}
	b = nil
	if err := a.Decode(2, &b); err != nil || string(b) != "bin" {
		t.Errorf("got %q, %v, want bin", b, err)
	}
	for i, want := range []string{`"x"`, `2`, hole + `0}`, `{"k":[1,"]"]}`, ``} {
		if got := string(a.Raw(i)); got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
	}
	if got := a.Raw(-1); got != nil {
		t.Errorf("got %s, want nil", got)
	}
	for _, i := range []int{4, -1} {
		if err := a.Decode(i, &more); err != nil || more != "untouched" {
			t.Errorf("%d: got %q, %v, want what there was", i, more, err)
		}
	}
	if got, want := a.String(), `["x",2,`+hole+`0},{"k":[1,"]"]}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	err := a.DecodeAll(nil, &s)
	if err == nil || !strings.Contains(err.Error(), "argument 1") {
		t.Errorf("got %v, want an error that names argument 1", err)
	}
	var one, rest event.Args
	if err := a.DecodeAll(nil, &one, &rest); err != nil || one.String() != "[2]" || rest.Len() != 2 {
		t.Errorf("got %v, %v, %v", one, rest, err)
	}
	if err := a.Decode(3, &one); err != nil || one.String() != `[{"k":[1,"]"]}]` {
		t.Errorf("got %v, %v", one, err)
	}
	var none event.Args
	if none.Len() != 0 || none.String() != "[]" || none.DecodeAll(&s) != nil || none.Decode(0, &s) != nil {
		t.Error("got something from no arguments")
	}
}

// What is no JSON is an error where it is decoded, and nothing worse.
func TestArgsOfNonsense(t *testing.T) {
	for _, raw := range []string{`{`, `"`, `[1`, `]`, `}`, `,`, `1 2`, `"a`, `\`, `{"_placeholder":true`, hole + `5}`} {
		a := event.ArgsOf([]byte(raw), [][]byte{{1}})
		a.Len()
		var v any
		a.Decode(0, &v)
		a.DecodeAll(&v, &v, &v)
		event.Append(nil, nil, []byte("x"), a)
	}
}

type point struct{ X, Y int }

func (p *point) Fields() []any { return []any{&p.X, &p.Y} }

type message struct{ Text string }

// A peer is an Emitter, an Asker and an AllAsker that keeps what it was given and answers with answers.
type peer struct {
	sent    string
	answers []event.Args
	err     error
}

func (p *peer) Emit(_ context.Context, name string, args ...any) error {
	raw, _, err := event.AppendEvent(nil, nil, name, args...)
	p.sent = string(raw)
	return errors.Join(err, p.err)
}

func (p *peer) Ask(ctx context.Context, name string, args ...any) (event.Args, error) {
	if err := p.Emit(ctx, name, args...); err != nil {
		return event.Args{}, err
	}
	return p.answers[0], nil
}

func (p *peer) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return func(yield func(event.Args, error) bool) {
		err := p.Emit(ctx, name, args...)
		for _, a := range p.answers {
			if !yield(a, nil) {
				return
			}
		}
		if err != nil {
			yield(event.Args{}, err)
		}
	}
}

func TestNames(t *testing.T) {
	var p peer
	check := func(err error, want string) {
		t.Helper()
		if err != nil || p.sent != want {
			t.Errorf("got %s, %v, want %s", p.sent, err, want)
		}
	}
	ctx := t.Context()
	check(event.Name[message]("said").Emit(ctx, &p, message{"hi"}), `["said",{"Text":"hi"}]`)
	check(event.Name[*message]("said").Emit(ctx, &p, nil), `["said",null]`)
	check(event.Name[any]("said").Emit(ctx, &p, nil), `["said",null]`)
	check(event.Name[event.None]("bye").Emit(ctx, &p, event.None{}), `["bye"]`)
	check(event.Name[[]byte]("file").Emit(ctx, &p, []byte("x")), `["file",`+hole+`0}]`)
	check(event.Name[event.Args]("raw").Emit(ctx, &p, args(t, 1, 2)), `["raw",1,2]`)
	check(event.Name[event.Two[string, []byte]]("two").Emit(ctx, &p, event.Two[string, []byte]{"a", []byte("x")}), `["two","a",`+hole+`0}]`)
	check(event.Name[event.Three[int, bool, event.Args]]("three").Emit(ctx, &p, event.Three[int, bool, event.Args]{1, true, args(t, 2, 3)}), `["three",1,true,2,3]`)
	check(event.Name[point]("at").Emit(ctx, &p, point{1, 2}), `["at",1,2]`)
}

func TestDecodeInto(t *testing.T) {
	a := args(t, 1, 2, "x")
	if v, err := event.DecodeInto[point](a); err != nil || v != (point{1, 2}) {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := event.DecodeInto[event.Two[int, event.Args]](a); err != nil || v.A != 1 || v.B.String() != `[2,"x"]` {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := event.DecodeInto[event.Three[int, int, string]](args(t, 1)); err != nil || v.A != 1 || v.C != "" {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := event.DecodeInto[int](a); err != nil || v != 1 {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := event.DecodeInto[int](event.Args{}); err != nil || v != 0 {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := event.DecodeInto[event.Args](a); err != nil || v.Len() != 3 {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := event.DecodeInto[event.None](a); err != nil {
		t.Error(err)
	}
	if _, err := event.DecodeInto[string](a); err == nil {
		t.Error("got no error for a number where a string should be")
	}
}

func TestRequest(t *testing.T) {
	sum := event.Request[point, int]("sum")
	p := peer{answers: []event.Args{args(t, 3), args(t, "no number"), args(t, 4)}}
	if got, err := sum.Ask(t.Context(), &p, point{1, 2}); err != nil || got != 3 || p.sent != `["sum",1,2]` {
		t.Errorf("got %d, %v, sent %s", got, err, p.sent)
	}
	p.err = errors.New("away")
	if _, err := sum.Ask(t.Context(), &p, point{}); !errors.Is(err, p.err) {
		t.Errorf("got %v, want %v", err, p.err)
	}
	var got []int
	failed := 0
	for n, err := range sum.AskAll(t.Context(), &p, point{}) {
		if err != nil {
			failed++
			continue
		}
		got = append(got, n)
	}
	if diff := cmp.Diff([]int{3, 4}, got); diff != "" || failed != 2 {
		t.Errorf("%d failed; want -, got +:\n%s", failed, diff)
	}
	for range sum.AskAll(t.Context(), &p, point{}) {
		break
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	type said struct {
		User string `json:"user"`
		Text string `json:"text"`
		Room string `json:"room"`
		At   int64  `json:"at"`
	}
	m := said{"ada", "hello, how are you", "lobby", 1732233600000}
	raw := args(b, m)
	for _, bb := range []struct {
		name string
		v    any
	}{
		{"struct", m}, {"pointer", &m}, {"string", "hello, how are you"}, {"args", raw}, {"bytes", []byte("hello")},
		{"map", map[string]any{"user": "ada", "text": "hello, how are you", "at": 1}},
		{"map with bytes", map[string]any{"user": "ada", "data": []byte("hello")}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			buf := make([]byte, 0, 500)
			att := make([][]byte, 0, 4)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := event.AppendEvent(buf, att, "message", bb.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeInto(b *testing.B) {
	type said struct {
		User string `json:"user"`
		Text string `json:"text"`
		Room string `json:"room"`
		At   int64  `json:"at"`
	}
	a := args(b, said{"ada", "hello, how are you", "lobby", 1732233600000})
	b.Run("struct", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.DecodeInto[said](a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("any", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.DecodeInto[any](a); err != nil {
				b.Fatal(err)
			}
		}
	})
	bin := args(b, map[string]any{"user": "ada", "data": []byte("hello")})
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.DecodeInto[struct{ Data []byte }](bin); err != nil {
				b.Fatal(err)
			}
		}
	})
}
