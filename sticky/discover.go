package sticky

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Discovery finds nodes. It is a [File] or a [DNS].
type Discovery interface {
	// start returns what can be asked, and how often.
	start() (finder, time.Duration, error)
}

type finder interface {
	// look returns the nodes of now. changed is false where they are known to be those of the last time.
	look(ctx context.Context) (backends []Backend, changed bool, err error)
}

// A finding is what a Discovery has found.
type finding struct {
	d     finder
	every time.Duration
	now   []Backend     // the balancer's changing guards it
	err   string        // the last error that was logged
	first chan struct{} // closed after the first look
}

// File finds nodes in a file, which is read again when it has changed. Where it cannot be read or makes no sense, the nodes stay
// as they are, and the log says why.
type File struct {
	// Path is where it is.
	Path string
	// Interval is how often it is looked at. If zero, 1 second.
	Interval time.Duration
	// Parse reads it. If nil, [ParseBackends].
	Parse func(text []byte) ([]Backend, error)

	seen string // modification time, size and identity
}

func (f File) start() (finder, time.Duration, error) {
	if f.Path == "" || f.Interval < 0 {
		return nil, 0, errors.New("sticky: File: no path, or a negative interval")
	}
	if f.Parse == nil {
		f.Parse = ParseBackends
	}
	return &f, orElse(f.Interval, time.Second), nil
}

func (f *File) look(context.Context) ([]Backend, bool, error) {
	// What is stamped is taken before what is read: a change in between is seen the next time.
	stamp, err := stampOf(f.Path)
	if err != nil {
		f.seen = ""
		return nil, false, err
	}
	if stamp == f.seen {
		return nil, false, nil
	}
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, false, err
	}
	backends, err := f.Parse(text)
	if err != nil {
		f.seen = stamp // it will not be better at the next look
		return nil, false, fmt.Errorf("%s: %w", f.Path, err)
	}
	f.seen = stamp
	return backends, true, nil
}

// stampOf returns what tells whether a file has changed.
func stampOf(path string) (string, error) {
	fi, err := os.Stat(path) // of what a link leads to: Kubernetes changes the link
	if err != nil {
		return "", err
	}
	if fi.Size() > maxFile {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return fmt.Sprint(fi.ModTime().UnixNano(), " ", fi.Size(), " ", inode(fi)), nil
}

// maxFile bounds the size of a file with nodes, in bytes.
const maxFile = 4 << 20

// ParseBackends reads a list of nodes: one in a line, its URL first, then, if wanted, weight=N, max=N (sessions), name=NAME
// and drain. What follows a # is a comment.
func ParseBackends(text []byte) ([]Backend, error) {
	var all []Backend
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		b := Backend{URL: words[0]}
		for _, w := range words[1:] {
			key, val, _ := strings.Cut(w, "=")
			var err error
			switch key {
			case "weight":
				b.Weight, err = strconv.Atoi(val)
			case "max":
				b.MaxSessions, err = strconv.Atoi(val)
			case "name":
				b.Name = val
			case "drain":
				b.Drain = true
			default:
				err = errors.New("use weight=N, max=N, name=NAME or drain")
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: %q: %w", n, w, err)
			}
		}
		if _, err := b.parse(); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, b)
	}
	return all, nil
}

// DNS finds nodes by name: all addresses of a host, or the targets of an SRV record, with their ports and weights. Where the name
// cannot be resolved, the nodes stay as they are.
type DNS struct {
	// Name is the name of a host, whose addresses (A and AAAA) are the nodes; or where it begins with an
	// underscore, such as _http._tcp.chat.example, that of an SRV record, of which those of the first priority are.
	Name string
	// Port is the port of the nodes where Name is a host.
	Port int
	// Scheme is http or https. If empty, http.
	Scheme string
	// Interval is how often the name is resolved. If zero, 5 seconds.
	Interval time.Duration
	// Resolver is who is asked. If nil, [net.DefaultResolver].
	Resolver *net.Resolver

	ask interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
		LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	}
}

func (d DNS) start() (finder, time.Duration, error) {
	srv := strings.HasPrefix(d.Name, "_")
	if d.Name == "" || d.Interval < 0 || !srv && (d.Port < 1 || d.Port > 65535) {
		return nil, 0, fmt.Errorf("sticky: DNS %q: a name, and for a host a port, are needed", d.Name)
	}
	if d.Scheme = orElse(d.Scheme, "http"); d.Scheme != "http" && d.Scheme != "https" {
		return nil, 0, fmt.Errorf("sticky: DNS %q: the scheme must be http or https", d.Name)
	}
	if d.ask == nil {
		d.ask = orElse(d.Resolver, net.DefaultResolver)
	}
	return &d, orElse(d.Interval, 5*time.Second), nil
}

func (d *DNS) look(ctx context.Context) ([]Backend, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var all []Backend
	if strings.HasPrefix(d.Name, "_") {
		_, records, err := d.ask.LookupSRV(ctx, "", "", d.Name)
		if err != nil {
			return nil, false, err
		}
		for _, r := range records {
			if r.Priority == records[0].Priority { // they are sorted
				host := net.JoinHostPort(strings.ToLower(strings.TrimSuffix(r.Target, ".")), strconv.Itoa(int(r.Port)))
				all = append(all, Backend{URL: d.Scheme + "://" + host, Weight: min(int(r.Weight), 1000)})
			}
		}
	} else {
		addrs, err := d.ask.LookupNetIP(ctx, "ip", d.Name)
		if err != nil {
			return nil, false, err
		}
		for _, a := range addrs {
			host := netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(d.Port))
			all = append(all, Backend{URL: d.Scheme + "://" + host.String()})
		}
	}
	if len(all) == 0 {
		return nil, false, fmt.Errorf("%s has no nodes", d.Name)
	}
	slices.SortFunc(all, func(a, b Backend) int { return strings.Compare(a.URL, b.URL) })
	return all, true, nil
}

// discover begins to look for nodes until ctx ends.
func (l *Balancer) discover(ctx context.Context, all []Discovery) error {
	var found []*finding
	for _, d := range all {
		d, every, err := d.start()
		if err != nil {
			return err
		}
		found = append(found, &finding{d: d, every: every, first: make(chan struct{})})
	}
	l.changing.Lock()
	l.found = found
	l.changing.Unlock()
	l.finders.Store(&found)
	for _, f := range found {
		l.keepers.Go(func() {
			t := time.NewTicker(f.every)
			defer t.Stop()
			for first := true; ; first = false {
				l.consult(ctx, f)
				if first {
					close(f.first)
				}
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
			}
		})
	}
	return nil
}

// consult asks f once.
func (l *Balancer) consult(ctx context.Context, f *finding) {
	backends, changed, err := f.d.look(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil && changed {
		err = l.adopt(f, backends)
	}
	if errors.Is(err, errClosed) {
		return // sessions are ending; there is nothing to find any more
	}
	// Said once, not at every look.
	if err == nil {
		if changed {
			f.err = ""
		}
		return
	}
	if f.err != err.Error() {
		f.err = err.Error()
		l.o.Logger.Warn("sticky: nodes stay as they are: discovery failed", "err", err)
	}
}

// adopt takes over what f has found.
func (l *Balancer) adopt(f *finding, backends []Backend) error {
	if _, _, err := distinct(backends, true); err != nil {
		return err
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	if slices.Equal(f.now, backends) {
		return nil
	}
	before := f.now
	f.now = backends
	if err := l.setBackends(l.rules().RemoveAfter, l.fixed); err != nil {
		f.now = before
		return err
	}
	return nil
}
