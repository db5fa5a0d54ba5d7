package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A handshake is the server's open packet.
type handshake struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`     // at most a few
	PingInterval int64    `json:"pingInterval"` // milliseconds
	PingTimeout  int64    `json:"pingTimeout"`
	MaxPayload   int      `json:"maxPayload"` // bytes; zero: not told
}

func (h *handshake) interval() time.Duration { return time.Duration(h.PingInterval) * time.Millisecond }
func (h *handshake) timeout() time.Duration  { return time.Duration(h.PingTimeout) * time.Millisecond }

// parseHandshake reads the open packet at the beginning of a body.
func parseHandshake(body []byte) (h handshake, ok bool) {
	const most = 1 << 31 // of milliseconds and bytes: what clients can count
	first, _, _ := strings.Cut(string(body), "\x1e")
	if !strings.HasPrefix(first, "0{") || json.Unmarshal([]byte(first[1:]), &h) != nil || h.SID == "" || len(h.SID) > 200 {
		return h, false
	}
	h.PingInterval, h.PingTimeout = min(max(h.PingInterval, 0), most), min(max(h.PingTimeout, 0), most)
	h.MaxPayload = min(max(h.MaxPayload, 0), most)
	return h, true
}

// target is what is asked for: the path and query of the URL, with parameters.
func (v *visit) target(transport, sid string) string {
	v.mu.Lock()
	v.tokens++
	token := v.tokens
	v.mu.Unlock()
	q := "EIO=4&transport=" + transport + fmt.Sprintf("&t=atoll%d", token)
	if v.u.RawQuery != "" {
		q = v.u.RawQuery + "&" + q
	}
	if sid != "" {
		q += "&sid=" + url.QueryEscape(sid)
	}
	return v.u.EscapedPath() + "?" + q
}

// A session is one over polling, with the cookies that it was given if it keeps them.
type session struct {
	v       *visit
	id      string
	keeps   bool
	cookies map[string]string
}

// open begins a session over l, or a fresh connection if l is nil.
func (v *visit) open(l *line, keeps bool, header ...string) (*session, *answer, error) {
	s := &session{v: v, keeps: keeps, cookies: make(map[string]string)}
	a, err := s.ask(l, request{method: http.MethodGet, target: v.target("polling", ""), header: header})
	if err != nil {
		return nil, nil, err
	}
	h, ok := parseHandshake(a.body)
	if a.status != http.StatusOK || !ok {
		return nil, a, nil
	}
	s.id = h.SID
	v.mu.Lock()
	if n := a.header.Get("Atoll-Node"); n != "" && len(n) < 40 {
		v.report.Nodes[n]++
	}
	v.mu.Unlock()
	return s, a, nil
}

// ask sends a request with the session's cookies.
func (s *session) ask(l *line, q request) (*answer, error) {
	q.header = append(slices.Clone(q.header), s.cookieHeader()...)
	var a *answer
	var err error
	if l == nil {
		a, err = s.v.once(q)
	} else {
		q.keep = true
		a, err = l.do(q)
	}
	if err == nil && s.keeps {
		for _, c := range (&http.Response{Header: a.header}).Cookies() {
			s.cookies[c.Name] = c.Value
		}
	}
	return a, err
}

func (s *session) cookieHeader() []string {
	if len(s.cookies) == 0 {
		return nil
	}
	var all []string
	for _, k := range slices.Sorted(maps.Keys(s.cookies)) {
		all = append(all, k+"="+s.cookies[k])
	}
	return []string{"Cookie: " + strings.Join(all, "; ")}
}

func (s *session) poll(l *line, header ...string) (*answer, error) {
	return s.ask(l, request{method: http.MethodGet, target: s.v.target("polling", s.id), header: header})
}

func (s *session) post(l *line, body string, header ...string) (*answer, error) {
	return s.ask(l, request{method: http.MethodPost, target: s.v.target("polling", s.id), body: body, header: header})
}

// end closes the session, so that nothing is left at the server.
func (s *session) end() {
	_, _ = s.post(nil, "1")
}

// connect opens a session that is connected to the main namespace. What went wrong is told
// in why, empty if nothing did; a server may refuse the CONNECT, which is as good.
func (v *visit) connect() (s *session, why string) {
	s, a, err := v.open(nil, v.jar)
	if s == nil {
		return nil, outcome("handshake", a, err)
	}
	if a, err := s.post(nil, "40"); err != nil || a.status != http.StatusOK {
		return nil, outcome("POST", a, err)
	}
	a, err = s.poll(nil)
	if err != nil || a.status != http.StatusOK || !connected(string(a.body)) {
		s.end()
		return nil, outcome("poll", a, err)
	}
	if has(string(a.body), "2") { // without an answer there is no further ping
		_, _ = s.post(nil, "3")
	}
	return s, ""
}

// connected reports whether an answer has what a server says to a CONNECT.
func connected(body string) bool {
	for p := range strings.SplitSeq(body, "\x1e") {
		if strings.HasPrefix(p, "40") || strings.HasPrefix(p, "44") {
			return true
		}
	}
	return false
}

// has reports whether a body has a packet.
func has(body, packet string) bool {
	return slices.Contains(strings.Split(body, "\x1e"), packet)
}
