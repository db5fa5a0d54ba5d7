package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// compose reads a compose file: its schema, its variables, and what its services name.
func (f *file) compose(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	details := types.ConfigDetails{
		WorkingDir:  filepath.Dir(path),
		ConfigFiles: []types.ConfigFile{{Filename: path}},
		Environment: types.Mapping{},
	}
	project, err := loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName("validate", false)
	})
	if err != nil {
		f.wrong("%v", err)
		return nil
	}
	for _, name := range project.ServiceNames() {
		s := project.Services[name]
		f.has("service %s", name)
		if s.Image == "" && s.Build == nil {
			f.wrong("service %s has neither image nor build", name)
		}
		if s.Build != nil {
			file := s.Build.Dockerfile
			if !filepath.IsAbs(file) {
				file = filepath.Join(s.Build.Context, file)
			}
			f.exists("service "+name+", build", file)
		}
		for _, v := range s.Volumes {
			// Certificates are for those who use it to bring.
			made := strings.HasSuffix(v.Source, ".sock") || filepath.Base(filepath.Dir(v.Source)) == "certs"
			if v.Type == types.VolumeTypeBind && !made {
				f.exists("service "+name+", volume", v.Source)
			}
		}
	}
	return nil
}

// exists says where path is missing.
func (f *file) exists(where, path string) {
	if _, err := os.Stat(path); err != nil {
		f.wrong("%s: %v", where, err)
	}
}

// dockerfile reads a Dockerfile whose context is root.
func (f *file) dockerfile(root, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	parsed, err := parser.Parse(in)
	if err != nil {
		f.wrong("%v", err)
		return nil
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		f.wrong("%s: %s", rule, message)
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		f.wrong("%v", err)
		return nil
	}
	known := map[string]bool{}
	for _, s := range stages {
		f.has("stage %s %s", s.BaseName, s.Name)
		for _, c := range s.Commands {
			cp, ok := c.(*instructions.CopyCommand)
			if !ok {
				continue
			}
			if cp.From != "" {
				if !known[cp.From] {
					f.wrong("COPY --from=%s: there is no such stage", cp.From)
				}
				continue
			}
			for _, source := range cp.SourcePaths {
				f.exists("COPY", filepath.Join(root, source))
			}
		}
		known[s.Name] = true
	}
	return nil
}
