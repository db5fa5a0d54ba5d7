package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

// lookFlags are those of the commands that look at a cluster.
type lookFlags struct {
	busFlags
	nsp     string
	json    bool
	timeout time.Duration
}

func (l *lookFlags) register(f *pflag.FlagSet) {
	l.busFlags.register(f)
	f.BoolVar(&l.json, "json", false, "one JSON object on each line, for programs")
	waitVar(f, &l.timeout, "timeout", 5*time.Second, "how long answers are waited for")
	f.StringVarP(&l.nsp, "namespace", "n", "/", "namespace")
}

// ask calls f with an emitter that can ask, and with the names of the nodes that announce themselves.
func (l *lookFlags) ask(ctx context.Context, f func(ctx context.Context, em *emitter.Emitter, names map[string]string) error) error {
	bus, err := l.reach(ctx)
	if err != nil {
		return err
	}
	defer bus.close()
	em, err := emitter.Connect(ctx, bus.Bus, &emitter.Options{Key: key(), Settle: lookSettle, Timeout: l.timeout, Logger: slog.Default()})
	if err != nil {
		return fmt.Errorf("cannot listen to the cluster over %s: %w", bus.name, err)
	}
	defer em.Close()
	names := make(map[string]string)
	for _, m := range em.Peers() {
		names[m.ID] = m.Name
	}
	return f(ctx, em.Of(l.nsp), names)
}

// An incompleteError says that what was printed is not all: exit status 3.
type incompleteError struct{ error }

func (e incompleteError) Unwrap() error { return e.error }

// incomplete makes of the error that ends a question one for people.
func incomplete(err error) error {
	absent, ok := errors.AsType[*cluster.AbsentError](err)
	if !ok {
		return err
	}
	if absent.Err != nil && !errors.Is(absent.Err, context.DeadlineExceeded) {
		return fmt.Errorf("the question did not reach the cluster: %w", absent.Err)
	}
	var who []string
	if n := len(absent.Nodes); n > 0 {
		names := make([]string, n)
		for i, s := range absent.Nodes {
			names[i] = safe(s)
		}
		who = append(who, strings.Join(names, ", "))
	}
	if absent.Unnamed > 0 {
		who = append(who, number(absent.Unnamed, "node")+" without a name")
	}
	if absent.Acks > 0 {
		who = append(who, number(absent.Acks, "client"))
	}
	return incompleteError{fmt.Errorf("not all have answered. Missing: %s. --timeout waits longer", strings.Join(who, "; "))}
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// safe makes text from the network safe for a terminal: what controls it is escaped.
func safe(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), `\\`, `\`)
}

// A column of a table.
type column struct {
	title string
	width int // of its cells; the last column's is what is left
	right bool
}

const space = "  " // between columns

// row prints cells, each as wide as its column; what is too long ends with an ellipsis. The last
// cell may have what is left of the screen, and all there is where the output is no terminal.
func row(w io.Writer, columns []column, cells ...string) error {
	var b strings.Builder
	left := screen(w)
	for i, c := range columns {
		if i == len(columns)-1 {
			s := safe(cells[i])
			if left > 0 {
				s = cut(s, max(left, 8))
			}
			b.WriteString(s)
			break
		}
		s := cut(safe(cells[i]), c.width)
		pad := strings.Repeat(" ", c.width-utf8.RuneCountInString(s))
		if c.right {
			s, pad = pad, s
		}
		b.WriteString(s + pad + space)
		left -= c.width + len(space)
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), " ")+"\n")
	return err
}

func header(w io.Writer, columns []column) error {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	return row(w, columns, titles...)
}

// cut shortens s to n runes.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// screen is how many columns w has, 0 where it is no terminal.
func screen(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 40 {
		return n
	}
	return 80
}

// printJSON prints v on a line of its own.
func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// ago says how long a time is, in two letters or four.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// lookSettle is how long a command listens for the nodes that are there before it asks them: a node
// that was not heard is not waited for.
const lookSettle = 500 * time.Millisecond
