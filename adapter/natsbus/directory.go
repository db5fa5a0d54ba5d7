package natsbus

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A directory is where the nodes of one cluster on one machine find each other: a file
// for each node that says where it listens, and one with their common secret. Only its
// owner can read it. A node holds a lock on its file as long as its process lives,
// so that what a killed node left behind is known and removed by the others.
type directory struct{ path string }

// A record is what a node says of itself.
type record struct {
	Name    string    `json:"name"`
	Route   string    `json:"route"`  // address for other nodes
	Client  string    `json:"client"` // address for clients
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// before orders records by age.
func (r record) before(o record) bool {
	if c := r.Started.Compare(o.Started); c != 0 {
		return c < 0
	}
	return r.Name < o.Name
}

const (
	recordSuffix = ".node"
	secretFile   = "secret"
	maxRecord    = 4096
)

// userDirectory is where the directories of all clusters are, for this user.
func userDirectory() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("atoll-%d", os.Getuid()))
}

// openDirectory makes the directory if it is not there, and refuses it if others could write in it.
func openDirectory(path string) (directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return directory{}, err
	}
	for _, p := range []string{filepath.Dir(path), path} {
		if p == filepath.Dir(path) && p != userDirectory() {
			continue // what is above a directory of the user's choice is the user's business
		}
		if err := private(p); err != nil {
			return directory{}, err
		}
	}
	return directory{path}, nil
}

// secret returns the cluster's secret, and makes one if there is none.
func (d directory) secret() (string, error) { return d.adopt(rand.Text()) }

// adopt returns the cluster's secret, which is the given one if there was none.
func (d directory) adopt(secret string) (string, error) {
	path := filepath.Join(d.path, secretFile)
	for range 3 {
		b, err := os.ReadFile(path)
		if err == nil && len(b) >= 20 {
			return string(b), nil
		}
		if err == nil {
			return "", fmt.Errorf("%s holds no secret: remove it", path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		// Written whole under another name first: whoever reads it reads all of it.
		tmp := path + "." + rand.Text()
		if err := os.WriteFile(tmp, []byte(secret), 0o600); err != nil {
			return "", err
		}
		err = os.Link(tmp, path)
		os.Remove(tmp)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("%s cannot be made", path)
}

// A registration is a node's file, and the lock on it.
type registration struct {
	path string
	file *os.File
}

// register writes the node's file.
func (d directory) register(r record) (*registration, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, r.Name+recordSuffix)
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock(f); err == nil {
		if _, err = f.Write(b); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		return nil, err
	}
	return &registration{path, f}, nil
}

// touch keeps the files from being taken for forgotten by what cleans temporary
// directories. It reports false where one is gone.
func (d directory) touch(r *registration) bool {
	now := time.Now()
	ok := os.Chtimes(r.path, now, now) == nil
	return os.Chtimes(filepath.Join(d.path, secretFile), now, now) == nil && ok
}

func (r *registration) remove() {
	os.Remove(r.path)
	r.file.Close()
}

// living returns the records of the nodes that live, and removes what dead ones left.
func (d directory) living() ([]record, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var rs []record
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), recordSuffix) || !e.Type().IsRegular() {
			continue
		}
		if r, ok := d.read(e.Name()); ok {
			rs = append(rs, r)
		}
	}
	return rs, nil
}

func (d directory) read(name string) (record, bool) {
	path := filepath.Join(d.path, name)
	f, err := os.Open(path)
	if err != nil {
		return record{}, false
	}
	defer f.Close()
	b := make([]byte, maxRecord)
	n, _ := f.Read(b)
	var r record
	if json.Unmarshal(b[:n], &r) != nil || r.Name+recordSuffix != name || r.Route == "" {
		return record{}, false
	}
	if abandoned(f, r) {
		os.Remove(path)
		return record{}, false
	}
	return r, true
}
