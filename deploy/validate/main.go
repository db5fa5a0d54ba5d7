// Command validate reads the manifests of deploy/ as the programs do that they are for: Kubernetes objects with
// the types of its API, strictly; compose files with the reader of docker compose; Dockerfiles with the
// reader of BuildKit. And it looks whether what they name is there.
//
//	go run -C deploy/validate . ../..
//
// It is a module of its own, so that what it needs is in no other program. It needs no engine and no cluster. It prints a
// line for each file, and ends with status 1 where one is wrong.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	files, err := validate(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	bad := 0
	for _, f := range files {
		for _, p := range f.problems {
			fmt.Printf("FAIL  %s: %s\n", f.name, p)
			bad++
		}
		if len(f.problems) == 0 {
			fmt.Printf("ok    %s: %s\n", f.name, strings.Join(f.found, ", "))
		}
	}
	if bad > 0 || len(files) == 0 {
		fmt.Printf("%d problems in %d files\n", bad, len(files))
		os.Exit(1)
	}
}

// A file is one that was looked at.
type file struct {
	name     string // below the root
	found    []string
	problems []string
}

func (f *file) has(format string, args ...any) {
	f.found = append(f.found, fmt.Sprintf(format, args...))
}
func (f *file) wrong(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// validate looks at all manifests below root/deploy. Its error says why it could not look.
func validate(root string) ([]*file, error) {
	var files []*file
	objects := newCatalogue()
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := &file{name: filepath.ToSlash(name)}
		base := filepath.Base(path)
		yaml := strings.HasSuffix(base, ".yaml") || strings.HasSuffix(base, ".yml")
		switch {
		case base == "Dockerfile" || strings.HasPrefix(base, "Dockerfile."):
			err = f.dockerfile(root, path)
		case yaml && (strings.HasPrefix(base, "compose") || strings.HasPrefix(base, "docker-compose")):
			err = f.compose(path)
		case yaml:
			var text []byte
			if text, err = os.ReadFile(path); err != nil || !isKubernetes(text) {
				return err // of another program
			}
			f.kubernetes(text, objects)
		default:
			return nil
		}
		files = append(files, f)
		return err
	})
	objects.check()
	return files, err
}
