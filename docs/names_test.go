package docs

import (
	"go/types"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	code  = regexp.MustCompile("`([^`\\n]+)`")
	chain = regexp.MustCompile(`^\*?([A-Za-z]\w*)((?:\.[A-Z]\w*(?:\(\))?)+)$`)
)

// TestNames looks up what stands in backquotes and looks like a name of the API: cluster.Options.Resend, Server.Drain,
// Node.Stats().Gaps.
func TestNames(t *testing.T) {
	from, n := load(t), 0
	scopes := map[string]*types.Scope{}
	for name, where := range imports {
		p, err := from.Import(where)
		if err != nil {
			t.Fatal(err)
		}
		scopes[name] = p.Scope()
	}
	for name, text := range files(t) {
		for _, at := range code.FindAllStringSubmatchIndex(text, -1) {
			m := chain.FindStringSubmatch(text[at[2]:at[3]])
			if m == nil {
				continue
			}
			parts := strings.Split(m[2][1:], ".")
			known, found := scopes[m[1]] != nil, false
			if known {
				found = has(scopes[m[1]].Lookup(strings.TrimSuffix(parts[0], "()")), parts[1:])
			} else { // a type of one of our packages
				for pkg, scope := range scopes {
					if o, ok := scope.Lookup(m[1]).(*types.TypeName); ok && strings.HasPrefix(imports[pkg], module) {
						known = true
						found = found || has(o, parts)
					}
				}
			}
			if known {
				n++
			}
			if known && !found {
				t.Errorf("%s: there is no %s", place(name, text, at[0]), m[0])
			}
		}
	}
	if n < 50 {
		t.Errorf("got %d names, want all", n)
	}
}

// has reports whether o has the fields or methods of a chain, each of what the one before it is or returns.
func has(o types.Object, parts []string) bool {
	if o == nil {
		return false
	}
	kind := o.Type()
	for _, part := range parts {
		if f, ok := kind.(*types.Signature); ok && f.Results().Len() > 0 {
			kind = f.Results().At(0).Type()
		}
		next, _, _ := types.LookupFieldOrMethod(kind, true, o.Pkg(), strings.TrimSuffix(part, "()"))
		if next == nil {
			return false
		}
		kind = next.Type()
	}
	return true
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	unslug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinks follows the links within the repository, to headings too.
func TestLinks(t *testing.T) {
	pages := files(t)
	anchors := map[string]map[string]bool{}
	for name, text := range pages {
		anchors[name] = map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			slug := strings.ReplaceAll(unslug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
			anchors[name][slug] = true
		}
	}
	n := 0
	for name, text := range pages {
		for _, at := range link.FindAllStringSubmatchIndex(text, -1) {
			target, anchor, _ := strings.Cut(text[at[2]:at[3]], "#")
			if strings.Contains(target, ":") {
				continue // elsewhere
			}
			n++
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat("../" + file); err != nil {
				t.Errorf("%s: no file %s", place(name, text, at[0]), file)
			}
			if anchor != "" && !anchors[file][anchor] {
				t.Errorf("%s: %s has no heading #%s", place(name, text, at[0]), file, anchor)
			}
		}
	}
	if n < 50 {
		t.Errorf("got %d links, want all", n)
	}
}
