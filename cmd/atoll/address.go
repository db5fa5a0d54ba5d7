package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// An address says which bus a cluster has, and where.
type address struct {
	scheme string   // "redis", "rediss", "postgres", "nats", …
	format string   // what stands behind the + of the scheme: "sharded", "streams", "native" or nothing
	hosts  []string // host:port
	url    *url.URL // with the first host only, and without what follows
	params url.Values
}

// formats are the formats of each medium.
var formats = map[string][]string{
	"redis": {"", "sharded", "streams", "native"}, "rediss": {"", "sharded", "streams", "native"},
	"postgres": {"", "native"}, "postgresql": {"", "native"},
	"nats": {""}, "tls": {""},
}

const formsOfBus = `The forms are
  redis://user:password@host:6379            with servers that use @socket.io/redis-adapter
  redis+sharded://…  redis+streams://…       with its sharded adapter, with redis-streams-adapter
  postgres://user:password@host/database     with @socket.io/postgres-adapter
  redis+native://…  postgres+native://…      Atoll nodes only
  nats://host:4222                           Atoll nodes only`

// parseAddress reads the URL of a bus. No error of it tells the URL, which may hold a password.
func parseAddress(s string) (*address, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, usagef("the bus is no URL. %s", formsOfBus)
	}
	a := &address{scheme: scheme}
	a.scheme, a.format, _ = strings.Cut(strings.ToLower(scheme), "+")
	if known, ok := formats[a.scheme]; !ok || !slices.Contains(known, a.format) {
		return nil, usagef("there is no bus %s://. %s", scheme, formsOfBus)
	}
	// Several hosts stand with commas between, which are no part of a URL's host.
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	a.hosts = strings.Split(rest[at:end], ",")
	u, err := url.Parse(a.scheme + "://" + rest[:at] + a.hosts[0] + rest[end:])
	if err != nil || u.Fragment != "" {
		return nil, usagef("the URL of the bus is malformed: special characters in a password are written %%XX. %s", formsOfBus)
	}
	for i, h := range a.hosts {
		a.hosts[i] = withPort(h, a.scheme)
	}
	a.params = u.Query()
	u.RawQuery = ""
	a.url = u
	return a, nil
}

// withPort returns host:port of what has no port perhaps, or no host.
func withPort(host, scheme string) string {
	h, port, err := net.SplitHostPort(host)
	if err != nil {
		h, port = strings.Trim(host, "[]"), ""
	}
	if h == "" {
		h = "localhost"
	}
	if port == "" {
		port = map[string]string{"redis": "6379", "rediss": "6379", "postgres": "5432", "postgresql": "5432"}[scheme]
	}
	if port == "" {
		port = "4222"
	}
	return net.JoinHostPort(h, port)
}

// take returns a parameter and removes it, so that what is left is unknown.
func (a *address) take(name string) string {
	v := a.params.Get(name)
	a.params.Del(name)
	return v
}

// A setting is a parameter and where its value goes: a *string, *int, *int64, *bool or *time.Duration.
type setting struct {
	name string
	into any
}

// settings takes the parameters that are there.
func (a *address) settings(all ...setting) error {
	for _, s := range all {
		if !a.params.Has(s.name) {
			continue
		}
		v, err, want := a.take(s.name), error(nil), ""
		switch p := s.into.(type) {
		case *string:
			*p = v
		case *int:
			*p, err = strconv.Atoi(v)
			want = "a whole number"
		case *int64:
			*p, err = strconv.ParseInt(v, 10, 64)
			want = "a whole number"
		case *bool:
			*p, err = strconv.ParseBool(v)
			want = "true or false"
		case *time.Duration:
			*p, err = time.ParseDuration(v)
			want = "a time, for instance 5s"
		}
		if err != nil {
			return usagef("the parameter %s of the bus is %s, got %q", s.name, want, v)
		}
	}
	return nil
}

// done refuses the parameters that nobody took.
func (a *address) done() error {
	if len(a.params) == 0 {
		return nil
	}
	return usagef("the bus %s has no parameter %q", a.kind(), slices.Sorted(maps.Keys(a.params))[0])
}

// kind is the scheme as the user wrote it.
func (a *address) kind() string {
	if a.format == "" {
		return a.scheme + "://"
	}
	return a.scheme + "+" + a.format + "://"
}

// place is for people: without user, password and parameters.
func (a *address) place() string { return strings.Join(a.hosts, ", ") }

// redisOptions are the client's; it takes the parameters that all formats have.
func (a *address) redisOptions() (rueidis.ClientOption, error) {
	o := rueidis.ClientOption{InitAddress: a.hosts, DisableCache: true}
	if u := a.url.User; u != nil {
		o.Username = u.Username()
		o.Password, _ = u.Password()
	}
	db := strings.Trim(a.url.Path, "/")
	var skip bool
	var ca string
	err := a.settings(setting{"db", &db}, setting{"sentinel", &o.Sentinel.MasterSet}, setting{"sentinel_user", &o.Sentinel.Username},
		setting{"sentinel_password", &o.Sentinel.Password}, setting{"skip_verify", &skip}, setting{"ca", &ca})
	if err != nil {
		return o, err
	}
	if db != "" {
		if o.SelectDB, err = strconv.Atoi(db); err != nil || o.SelectDB < 0 {
			return o, usagef("the database of a Redis is a number, got %q", db)
		}
	}
	if a.scheme != "rediss" {
		if skip || ca != "" {
			return o, usagef("skip_verify and ca go with rediss://")
		}
		return o, nil
	}
	host, _, _ := net.SplitHostPort(a.hosts[0])
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if len(a.hosts) == 1 && o.Sentinel.MasterSet == "" {
		o.TLSConfig.ServerName = host
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return o, fmt.Errorf("cannot read the certificates of the parameter ca: %w", err)
		}
		o.TLSConfig.RootCAs = x509.NewCertPool()
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return o, usagef("the file of the parameter ca holds no certificate in PEM")
		}
	}
	if o.Sentinel.MasterSet != "" {
		o.Sentinel.TLSConfig = o.TLSConfig
	}
	return o, nil
}
