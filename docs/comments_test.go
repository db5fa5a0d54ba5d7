package docs

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/types"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var bracket = regexp.MustCompile(`(?:^|[\s(])\[\*?([A-Za-z_]\w*)((?:\.[A-Z]\w*)*)\]`)

// TestDocLinks looks up the [Names] in doc comments of what people import: go doc says nothing where one leads nowhere.
func TestDocLinks(t *testing.T) {
	from, n := load(t), 0
	for _, where := range imports {
		rest, ok := strings.CutPrefix(where, module)
		if !ok {
			continue
		}
		dir := filepath.Join("..", filepath.FromSlash(rest))
		pkg, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		self, err := from.Import(where)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range pkg.GoFiles {
			file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			imported := map[string]string{}
			for _, i := range file.Imports {
				p := strings.Trim(i.Path.Value, `"`)
				imported[p[strings.LastIndex(p, "/")+1:]] = p
			}
			for _, text := range comments(file) {
				for _, m := range bracket.FindAllStringSubmatch(prose(text.Text()), -1) {
					parts := strings.FieldsFunc(m[2], func(r rune) bool { return r == '.' })
					var scope *types.Scope
					first := m[1]
					switch p := imported[first]; {
					case ast.IsExported(first):
						scope = self.Scope()
					case len(parts) > 0 && p == "": // go doc finds those of the standard library, and of the same module
						if p = imports[first]; p == "" {
							p = first
						}
						fallthrough
					case len(parts) > 0:
						other, err := from.Import(p)
						if err != nil {
							continue // not among what is loaded
						}
						scope, first, parts = other.Scope(), parts[0], parts[1:]
					default:
						continue // an index, not a link
					}
					n++
					if !has(scope.Lookup(first), parts) {
						t.Errorf("%s: %s leads nowhere", fset.Position(text.Pos()), strings.TrimSpace(m[0]))
					}
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("got %d links, want all", n)
	}
}

// comments returns the doc comments of what is exported.
func comments(file *ast.File) []*ast.CommentGroup {
	list := []*ast.CommentGroup{file.Doc}
	field := func(fields *ast.FieldList) {
		if fields != nil {
			for _, f := range fields.List {
				list = append(list, f.Doc)
			}
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() {
				list = append(list, d.Doc)
			}
		case *ast.GenDecl:
			list = append(list, d.Doc)
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					list = append(list, s.Doc)
				case *ast.TypeSpec:
					list = append(list, s.Doc)
					switch kind := s.Type.(type) {
					case *ast.StructType:
						field(kind.Fields)
					case *ast.InterfaceType:
						field(kind.Methods)
					}
				}
			}
		}
	}
	return list
}

// prose is a comment without its blocks of code.
func prose(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "\t") {
			b.WriteString(line)
		}
	}
	return b.String()
}
