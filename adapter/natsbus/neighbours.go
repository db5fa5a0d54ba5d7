package natsbus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// A LocalError says that no node of a cluster was found on this machine, and which other nodes of the same user are there.
type LocalError struct {
	// OtherSecret says that nodes of the cluster live here that have another secret than EmbedOptions.Secret, or none.
	OtherSecret bool

	// Others are the names of other clusters whose nodes live here, in order.
	Others []string

	// Err is why none was found.
	Err error
}

func (e *LocalError) Error() string {
	if e.OtherSecret {
		return "natsbus: nodes of the cluster live on this machine, with another secret: " + e.Err.Error()
	}
	return "natsbus: " + e.Err.Error()
}

func (e *LocalError) Unwrap() error { return e.Err }

// withSecret is the name of the directory of a cluster with a secret of its own; see dirOf.
var withSecret = regexp.MustCompile(`^(.+)-[0-9a-f]{12}$`)

// localError returns err with what else lives on this machine.
func localError(o *EmbedOptions, err error) *LocalError {
	e := &LocalError{Err: err}
	own := dirOf(o)
	name := (&Options{Cluster: o.Cluster}).cluster()
	entries, _ := os.ReadDir(filepath.Dir(own)) // there may be none
	for _, entry := range entries {
		path := filepath.Join(filepath.Dir(own), entry.Name())
		if path == own || !entry.IsDir() || private(path) != nil {
			continue
		}
		if records, err := (directory{path}).living(); err != nil || len(records) == 0 {
			continue
		}
		cluster := entry.Name()
		if m := withSecret.FindStringSubmatch(cluster); m != nil {
			cluster = m[1]
		}
		if cluster == name {
			e.OtherSecret = true
		} else if !slices.Contains(e.Others, cluster) {
			e.Others = append(e.Others, cluster)
		}
	}
	slices.Sort(e.Others)
	return e
}
