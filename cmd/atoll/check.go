package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/atollhq/atoll/internal/doctor"
	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var (
		o      doctor.Options
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "check URL",
		Short: "Look at a deployment from outside, and say what is wrong with it",
		Long: `check connects to a Socket.IO server as clients do, through whatever is in front of it, and says in
plain words what is wrong and which line in which file mends it: sessions that do not stay on their
node, an Upgrade header that is dropped, time-outs that are too short, limits, buffers, caches, redirects,
cookies, and what pages of other origins need.

It is gentle: some hundred requests, one after the other, and it ends the sessions that it opens. It
takes a few seconds, and as long as the server's ping interval (25 seconds by default) to see whether idle
connections live; --quick leaves that out.

The URL is that of the server, with its path where that is not /socket.io/. The status is 0 if all is
well, 1 if something is to be mended, 2 if the command was called in a wrong way, and 3 if nothing answers there.`,
		Example: `  atoll check https://chat.example.com
  atoll check https://chat.example.com --origin https://app.example.com --credentials
  atoll check localhost:3000/socket.io/ --quick --json`,
		Annotations: map[string]string{"quiet": "yes"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which server? For instance: atoll check https://chat.example.com")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			out, progress := cmd.OutOrStdout(), cmd.ErrOrStderr()
			p := painter(colours(out))
			if colours(progress) && !asJSON {
				o.Progress = func(what string) { fmt.Fprintf(progress, "\r\x1b[K… %s", what) }
			}
			r, err := doctor.Check(cmd.Context(), args[0], &o)
			if o.Progress != nil {
				fmt.Fprint(progress, "\r\x1b[K")
			}
			if _, ok := errors.AsType[*doctor.UsageError](err); ok {
				return usageError{err}
			}
			if _, ok := errors.AsType[*doctor.UnreachableError](err); ok {
				return incompleteError{err}
			}
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(out)
				e.SetEscapeHTML(false)
				if err := e.Encode(r); err != nil {
					return err
				}
			} else if err := p.report(out, r); err != nil {
				return err
			}
			if !r.Healthy() {
				n := 0
				for _, f := range r.Findings {
					if f.Severity != doctor.Note {
						n++
					}
				}
				return fmt.Errorf("%s to mend", number(n, "thing"))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Sessions, "sessions", 12, "how many sessions to open to see whether they stay on their node, 2 to 200")
	f.StringVar(&o.Origin, "origin", "", "look at what pages of this origin need, for instance https://app.example.com")
	f.BoolVar(&o.Credentials, "credentials", false, "those pages connect with withCredentials: true")
	f.BoolVar(&o.Quick, "quick", false, "do not wait for a ping to see whether idle connections live")
	f.StringVar(&o.Proxy, "proxy", "", "what is in front, if it cannot be told from outside: "+strings.Join(doctor.Proxies, ", "))
	f.StringVar(&o.Health, "health", "/health", "path of the health page")
	waitVar(f, &o.Timeout, "timeout", 10*time.Second, "how long an answer may take that should come at once")
	f.BoolVar(&asJSON, "json", false, "one JSON object, for programs")
	return cmd
}

func colours(w io.Writer) bool { return screen(w) > 0 && os.Getenv("NO_COLOR") == "" }

// A painter writes with colours, or without.
type painter bool

func (p painter) in(color, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// report writes a report for people.
func (p painter) report(w io.Writer, r *doctor.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.in("1", safe(r.URL)))
	front := r.Proxy
	if front == "unknown" {
		front = "nothing that gives itself away"
	}
	fmt.Fprintf(&b, "  server: %s; in front: %s; %s in %s\n", r.Server, front, number(r.Requests, "request"), r.Took.Round(100*time.Millisecond))
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "  %s %s: %s\n", p.in("32", "·"), f.Name, safe(f.Value))
	}
	for _, f := range r.Findings {
		p.finding(&b, f)
	}
	if r.Healthy() {
		fmt.Fprintf(&b, "\n%s\n", p.in("1;32", "Nothing to mend."))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var severityColor = map[doctor.Severity]string{doctor.Error: "1;31", doctor.Warning: "1;33", doctor.Note: "1;36"}

func (p painter) finding(b *strings.Builder, f doctor.Finding) {
	fmt.Fprintf(b, "\n%s %s %s\n", p.in(severityColor[f.Severity], string(f.Severity)+":"), p.in("1", safe(f.Title)), p.in("2", "("+f.ID+")"))
	paragraph(b, "  ", safe(f.Seen))
	paragraph(b, "  ", safe(f.Why))
	for _, m := range f.Mend {
		fmt.Fprintf(b, "  %s %s, %s\n", p.in("1", "to mend:"), safe(m.Program), safe(m.File))
		for line := range strings.SplitSeq(m.Line, "\n") {
			if line != "" {
				fmt.Fprintf(b, "      %s\n", p.in("36", safe(line)))
			}
		}
		if m.Note != "" {
			paragraph(b, "      ", safe(m.Note))
		}
	}
	for _, e := range f.Evidence {
		fmt.Fprintf(b, "  %s\n", p.in("2", "> "+safe(e)))
	}
}

// paragraph writes text in lines of some hundred characters.
func paragraph(b *strings.Builder, indent, text string) {
	n := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case n == 0:
			b.WriteString(indent)
		case n+len(word) > 100:
			b.WriteString("\n" + indent)
			n = 0
		default:
			b.WriteString(" ")
		}
		b.WriteString(word)
		n += len(word) + 1
	}
	b.WriteString("\n")
}
