// Package docs holds the documentation, and checks that it is true of the code: blocks of Go compile, names exist,
// links lead somewhere.
package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/atollhq/atoll"

// imports are the packages that the pages speak of.
var imports = map[string]string{
	"atoll": module, "event": module + "/event", "engine": module + "/engine", "sticky": module + "/sticky",
	"emitter": module + "/emitter", "httpemit": module + "/emitter/httpemit", "client": module + "/client",
	"cluster": module + "/cluster", "clustertest": module + "/cluster/clustertest", "recovery": module + "/recovery",
	"recoverytest": module + "/recovery/recoverytest", "atolltest": module + "/atolltest", "protocol": module + "/protocol",
	"wire": module + "/engine/wire", "membus": module + "/adapter/membus", "natsbus": module + "/adapter/natsbus",
	"redisbus": module + "/adapter/redisbus", "redisshard": module + "/adapter/redisshard",
	"redisstream": module + "/adapter/redisstream", "pgbus": module + "/adapter/pgbus",
	"rueidis": "github.com/redis/rueidis", "pgxpool": "github.com/jackc/pgx/v5/pgxpool",
	"context": "context", "errors": "errors", "expvar": "expvar", "fmt": "fmt", "http": "net/http", "iter": "iter", "log": "log", "net": "net",
	"os": "os", "signal": "os/signal", "slog": "log/slog", "syscall": "syscall", "testing": "testing", "time": "time",
}

// given is what a block may use without having declared it.
var given = map[string]string{
	"ctx": "context.Context", "bus": "cluster.Bus", "node": "*cluster.Node", "srv": "*atoll.Server", "chat": "*atoll.Namespace",
	"em":   "*emitter.Emitter",
	"open": "clustertest.Open", "dial": "clustertest.Dial", "address": "string", "startRig": "func(t testing.TB) *clustertest.Rig",
}

// files returns the pages, by their path from the repository's root.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md", "deploy/*/*.md"} {
		names, _ := filepath.Glob("../" + pattern)
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[path.Clean(strings.TrimPrefix(filepath.ToSlash(name), "../"))] = string(text)
		}
	}
	if len(all) < 10 {
		t.Fatalf("got %d pages, want all", len(all))
	}
	return all
}

// fset and compiled hold what the packages declare, as the go command has compiled them: read once for all tests, which
// run one after the other.
var (
	fset     = token.NewFileSet()
	compiled = sync.OnceValues(func() (types.Importer, error) {
		cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}"},
			slices.Sorted(maps.Values(imports))...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		files := map[string]string{}
		for line := range strings.Lines(string(out)) {
			name, file, _ := strings.Cut(strings.TrimSpace(line), " ")
			files[name] = file
		}
		return importer.ForCompiler(fset, "gc", func(name string) (io.ReadCloser, error) { return os.Open(files[name]) }), err
	})
)

func load(t *testing.T) types.Importer {
	t.Helper()
	from, err := compiled()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return from
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// TestCode compiles each block of Go: a whole file, declarations, or statements. A line of "…" stands for the usual
// look at err, other dots for what the reader knows better.
func TestCode(t *testing.T) {
	from, n := load(t), 0
	for name, text := range files(t) {
		for _, at := range goBlock.FindAllStringSubmatchIndex(text, -1) {
			n++
			where := place(name, text, at[2])
			block := strings.ReplaceAll(text[at[2]:at[3]], "\n…\n", "\nif err != nil { return err }\n")
			block = strings.ReplaceAll(block, "…", "")
			file, err := complete(where, block)
			if err != nil {
				t.Errorf("%s: %v\n%s", where, err, block)
				continue
			}
			config := types.Config{Importer: from, Error: func(err error) {
				if e := err.(types.Error); !e.Soft { // a block need not use what it declares
					t.Errorf("%s: %v\n%s", where, e.Msg, block)
				}
			}}
			_, _ = config.Check("block", fset, []*ast.File{file}, nil) // errors go to Error
		}
	}
	if n < 10 {
		t.Errorf("got %d blocks, want all", n)
	}
}

// complete makes a file of a block.
func complete(name, block string) (*ast.File, error) {
	if strings.HasPrefix(block, "package ") {
		return parser.ParseFile(fset, name, block, 0)
	}
	body := block
	file, err := parser.ParseFile(fset, name, "package p\n"+body, 0)
	if err != nil {
		body = "func _() error {\n" + block + "\nreturn nil\n}\n"
		if file, err = parser.ParseFile(fset, name, "package p\n"+body, 0); err != nil {
			return nil, err
		}
	}
	var head, tail bytes.Buffer
	need := map[string]bool{}
	for _, id := range file.Unresolved {
		if kind := given[id.Name]; kind != "" && !need[id.Name] {
			tail.WriteString("var " + id.Name + " " + kind + "\n")
			for _, word := range regexp.MustCompile(`\w+\.`).FindAllString(kind, -1) {
				need[strings.TrimSuffix(word, ".")] = true
			}
		}
		need[id.Name] = true
	}
	for id := range need {
		if imports[id] != "" {
			head.WriteString("import " + id + " \"" + imports[id] + "\"\n")
		}
	}
	return parser.ParseFile(fset, name, "package p\n"+head.String()+tail.String()+body, 0)
}

// place names a byte of a page.
func place(name, text string, offset int) string {
	return fmt.Sprintf("%s:%d", name, 1+strings.Count(text[:offset], "\n"))
}
