package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var (
	span    = regexp.MustCompile("(?s)```[a-z]*\n.*?```|`[^`\n]+`")
	command = regexp.MustCompile(`(?m)(?:^|[\s"/=` + "`" + `])atoll["',]*((?:[ \t]+|\\\n)[^\n|;&>#)]*(?:\\\n[^\n|;&>#)]*)*)`)
	flag    = regexp.MustCompile(`(?:^|[\s"` + "`" + `])(--?[a-zA-Z][a-z-]*)`)
)

// TestDocs looks up each command of the pages, and each of its flags.
func TestDocs(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md", "deploy/*/*.md"} {
		names, _ := filepath.Glob("../../" + pattern)
		pages = append(pages, names...)
	}
	top, commands, flags := root(), 0, 0
	top.InitDefaultHelpCmd()
	for _, page := range pages {
		if filepath.Base(page) == "ARCHITECTURE.md" {
			continue // there it is the name of a package
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range span.FindAllString(string(text), -1) {
			for _, m := range command.FindAllStringSubmatch(block, -1) {
				ours, _, _ := strings.Cut(m[1], " -- ") // what follows is another program's
				words := strings.Fields(strings.NewReplacer(`"`, " ", ",", " ", "'", " ", `\`, " ", "`", " ").Replace(ours))
				if len(words) == 0 || !regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
					continue
				}
				c, _, err := top.Find(words[:1])
				if err != nil || c == top {
					t.Errorf("%s: there is no command %q: %s", page, words[0], strings.TrimSpace(m[0]))
					continue
				}
				commands++
				for _, f := range flag.FindAllStringSubmatch(strings.Join(words, " "), -1) {
					flags++
					if !hasFlag(c, f[1]) {
						t.Errorf("%s: atoll %s has no flag %s", page, c.Name(), f[1])
					}
				}
			}
			if strings.HasPrefix(block, "`--") { // a flag of some command
				f := flag.FindStringSubmatch(block)[1]
				found := false
				for _, c := range top.Commands() {
					found = found || hasFlag(c, f)
				}
				if flags++; !found {
					t.Errorf("%s: no command has the flag %s", page, f)
				}
			}
		}
	}
	if commands < 30 || flags < 30 {
		t.Errorf("got %d commands and %d flags, want all", commands, flags)
	}
}

// hasFlag reports whether c takes a flag, as it is written.
func hasFlag(c *cobra.Command, written string) bool {
	c.InitDefaultHelpFlag()
	name, long := strings.CutPrefix(written, "--")
	for _, set := range []*pflag.FlagSet{c.Flags(), c.InheritedFlags()} {
		if long && set.Lookup(name) != nil || !long && len(written) == 2 && set.ShorthandLookup(written[1:]) != nil {
			return true
		}
	}
	return false
}
