// Package balanceconf reads the configuration file of `atoll balance`.
//
// The file is YAML, and read strictly: an unknown key is an error that names its line and the key that was
// probably meant. All fields are optional; what is missing has the default of package sticky.
package balanceconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds the size of a file in bytes: that is some ten thousand nodes.
const maxFile = 256 << 10

// A File is what a configuration file says.
type File struct {
	Listen        Listen      `yaml:"listen"`
	Admin         Admin       `yaml:"admin"`
	Status        string      `yaml:"status"` // path of the status on the public port
	Path          string      `yaml:"path"`
	Backends      []Backend   `yaml:"backends"`
	Discover      []Discovery `yaml:"discover"`
	RemoveAfter   Duration    `yaml:"remove_after"`
	Policy        string      `yaml:"policy"`
	Affinity      []Affinity  `yaml:"affinity"`
	HashLoad      float64     `yaml:"hash_load"`
	SlowStart     Duration    `yaml:"slow_start"`
	Limits        Limits      `yaml:"limits"`
	Retries       *float64    `yaml:"retries"` // share of requests; 0 for none
	Health        Health      `yaml:"health"`
	Passive       Passive     `yaml:"passive"`
	Trusted       []string    `yaml:"trusted_proxies"`
	ProxyProtocol bool        `yaml:"proxy_protocol"`
	Timeouts      Timeouts    `yaml:"timeouts"`
	Remember      Remember    `yaml:"sessions"`
	BackendTLS    BackendTLS  `yaml:"backend_tls"`
	AccessLog     AccessLog   `yaml:"access_log"`

	dir string // of the file; relative paths begin there
}

// Listen is where clients come.
type Listen struct {
	Host         string        `yaml:"host"`
	Port         *int          `yaml:"port"`
	TLS          []Certificate `yaml:"tls"`
	H2C          bool          `yaml:"h2c"`
	HeaderBytes  int           `yaml:"max_header_bytes"`
	Headers      int           `yaml:"max_headers"`
	RequestLine  int           `yaml:"max_request_line"`
	Body         int64         `yaml:"max_body"`
	WebSocket    Duration      `yaml:"websocket_idle"`
	ShutdownTime Duration      `yaml:"shutdown"` // how long sessions may go on when the program ends
}

// Grace is how long sessions may go on when the program ends; 0 where l does not say so.
func (l Listen) Grace() time.Duration { return time.Duration(l.ShutdownTime) }

// A Certificate is a pair of PEM files.
type Certificate struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Admin is where the pages for people and programs that look after the balancer are.
type Admin struct {
	Listen  string   `yaml:"listen"`
	Changes bool     `yaml:"changes"`
	Hosts   []string `yaml:"hosts"`
}

// A Backend is a node: a URL, or a mapping.
type Backend struct {
	URL         string `yaml:"url"`
	Name        string `yaml:"name"`
	Weight      int    `yaml:"weight"`
	MaxSessions int    `yaml:"max_sessions"`
	Drain       bool   `yaml:"drain"`
}

// A Discovery finds nodes: one of its fields is set.
type Discovery struct {
	File     string   `yaml:"file"`
	DNS      string   `yaml:"dns"`
	Port     int      `yaml:"port"`
	Scheme   string   `yaml:"scheme"`
	Interval Duration `yaml:"interval"`
}

// An Affinity is one of its fields, or a word as [sticky.ParseAffinity] reads it.
type Affinity struct {
	Cookie     *Cookie  `yaml:"cookie"`
	NodeCookie string   `yaml:"node_cookie"`
	Address    *Address `yaml:"address"`
	Header     string   `yaml:"header"`
	Query      string   `yaml:"query"`

	word string
}

// Word returns the affinity that is written as s.
func Word(s string) Affinity { return Affinity{word: s} }

// A Cookie is one that the balancer sets.
type Cookie struct {
	Name     string   `yaml:"name"`
	Path     string   `yaml:"path"`
	Domain   string   `yaml:"domain"`
	SameSite string   `yaml:"same_site"`
	Secure   bool     `yaml:"secure"`
	HTTPOnly *bool    `yaml:"http_only"`
	MaxAge   Duration `yaml:"max_age"`
	Secret   string   `yaml:"secret"`
}

// An Address is how many bits of a client's address count.
type Address struct {
	IPv4 int `yaml:"ipv4"`
	IPv6 int `yaml:"ipv6"`
}

// Limits bound what is new.
type Limits struct {
	Sessions           int   `yaml:"sessions"`
	SessionsPerNode    int   `yaml:"sessions_per_node"`
	Opening            *Rate `yaml:"opening"`
	OpeningPerAddress  *Rate `yaml:"opening_per_address"`
	Connections        int   `yaml:"connections"`
	ConnectionsAddress int   `yaml:"connections_per_address"`
}

// A Rate is a number in a second, or a mapping.
type Rate struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
}

// Health says how nodes are checked.
type Health struct {
	Path     string   `yaml:"path"`
	Expect   int      `yaml:"expect"`
	Interval Duration `yaml:"interval"`
	Timeout  Duration `yaml:"timeout"`
	Rise     int      `yaml:"rise"`
	Fall     int      `yaml:"fall"`
}

// Passive says what is concluded from requests that fail.
type Passive struct {
	Errors *int     `yaml:"errors"` // 0: nothing
	Share  float64  `yaml:"share"`
	Window Duration `yaml:"window"`
	Pause  Duration `yaml:"pause"`
}

// Timeouts bound what takes time.
type Timeouts struct {
	Dial        Duration `yaml:"dial"`
	Upgrade     Duration `yaml:"upgrade"`
	Body        Duration `yaml:"body"`
	Stall       Duration `yaml:"stall"`
	Header      Duration `yaml:"header"`
	Idle        Duration `yaml:"idle"`
	BackendIdle Duration `yaml:"backend_idle"`
}

// Remember says what of sessions is kept in memory.
type Remember struct {
	Max  int      `yaml:"remember"`
	Idle Duration `yaml:"idle"`
}

// BackendTLS is for nodes whose URL is https.
type BackendTLS struct {
	CA         string `yaml:"ca"`
	ServerName string `yaml:"server_name"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	Insecure   bool   `yaml:"insecure"`
}

// AccessLog is where requests are logged.
type AccessLog struct {
	Path     string `yaml:"path"`
	Format   string `yaml:"format"`
	Sessions bool   `yaml:"session_ids"`
}

// A Duration is written as 1m30s.
type Duration time.Duration

// UnmarshalYAML reads d.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := time.ParseDuration(text)
	if err != nil {
		return fault(n, "%q is no duration: write it with its unit, such as 500ms, 10s or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalYAML reads b.
func (b *Backend) UnmarshalYAML(n ast.Node) error {
	if isMapping(n) {
		type plain Backend
		return yaml.NodeToValue(n, (*plain)(b))
	}
	return yaml.NodeToValue(n, &b.URL)
}

// UnmarshalYAML reads r.
func (r *Rate) UnmarshalYAML(n ast.Node) error {
	if isMapping(n) {
		type plain Rate
		return yaml.NodeToValue(n, (*plain)(r))
	}
	return yaml.NodeToValue(n, &r.PerSecond)
}

// UnmarshalYAML reads a.
func (a *Affinity) UnmarshalYAML(n ast.Node) error {
	if isMapping(n) {
		type plain Affinity
		return yaml.NodeToValue(n, (*plain)(a))
	}
	return yaml.NodeToValue(n, &a.word)
}

func isMapping(n ast.Node) bool {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return true
	}
	return false
}

// An Error is something wrong in a file.
type Error struct {
	File string
	Line int // 0 where it is unknown
	Text string
}

func (e *Error) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
	case e.File == "":
		return e.Text
	}
	return e.File + ": " + e.Text
}

func fault(n ast.Node, format string, args ...any) *Error {
	return &Error{Line: lineOf(n), Text: fmt.Sprintf(format, args...)}
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// Read reads the file at path.
func Read(path string) (*File, error) {
	if fi, err := os.Stat(path); err != nil {
		return nil, err
	} else if fi.Size() > maxFile {
		return nil, fmt.Errorf("%s is longer than %d bytes; where there are so many nodes, let discover read them from a file with a URL in each line", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Parse reads text, which is that of the file with the given name.
func Parse(name string, text []byte) (*File, error) {
	f := &File{dir: filepath.Dir(name)}
	if err := decode(name, text, f); err != nil {
		return nil, err
	}
	return f, nil
}

// decode reads text into v.
func decode(name string, text []byte, v any) (err error) {
	defer func() {
		// The YAML reader panics on some texts that are no YAML. A running balancer must not end because of one.
		if p := recover(); p != nil {
			err = &Error{File: name, Text: fmt.Sprintf("this is no proper YAML (%v)", p)}
		}
	}()
	if len(text) > maxFile {
		return &Error{File: name, Text: fmt.Sprintf("this is longer than %d bytes; where there are so many nodes, let discover read them from a file with a URL in each line", maxFile)}
	}
	if line := tooDeep(text); line > 0 {
		return &Error{name, line, "this is nested too deeply, or has many brackets or commas without anything"}
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return explain(name, err)
	}
	var body ast.Node
	for _, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return &Error{name, lineOf(d.Body), "there is a second document"}
		}
		body = d.Body
	}
	if body == nil || body.Type() == ast.NullType {
		return nil // an empty file
	}
	if bad := checkKeys(body, v); bad != nil {
		bad.File = name
		return bad
	}
	if err := yaml.NodeToValue(body, v); err != nil {
		return explain(name, err)
	}
	return nil
}

// explain makes a line of an error of the YAML reader.
func explain(name string, err error) error {
	e := &Error{File: name}
	if own, ok := errorsAs[*Error](err); ok {
		e.Line, e.Text = own.Line, own.Text
		return e
	}
	e.Text = strings.TrimSpace(err.Error())
	if y, ok := errorsAs[yaml.Error](err); ok {
		e.Text = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
	}
	e.Text, _, _ = strings.Cut(e.Text, "\n")
	return e
}
