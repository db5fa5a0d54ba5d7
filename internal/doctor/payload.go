package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// heldBack is how much later an answer may come than what it tells of, and how slow a server may be.
const heldBack = time.Second

// buffering has a poll wait, causes an answer, and sees when it comes. What was late is asked for again: only
// what is late each time is held back.
func (v *visit) buffering() {
	if !v.sticky {
		return
	}
	var report func()
	for range 3 {
		if report, v.held = v.whenAnswered(); report == nil || !v.held {
			break
		}
	}
	if report != nil {
		report()
	}
}

// whenAnswered does it once, and returns how to tell of it: nil if it could not be done.
func (v *visit) whenAnswered() (report func(), late bool) {
	s, _, _ := v.open(nil, v.jar)
	if s == nil {
		return nil, false
	}
	defer s.end()
	type result struct {
		a   *answer
		err error
		at  time.Time
	}
	l, err := v.dial("")
	if err != nil {
		return nil, false
	}
	defer l.close()
	q := request{method: http.MethodGet, target: v.target("polling", s.id), header: s.cookieHeader()}
	if l.send(q) != nil {
		return nil, false
	}
	done := make(chan result, 1)
	v.idle.Go(func() {
		a, err := l.receive(q, time.Now())
		done <- result{a, err, time.Now()}
	})
	time.Sleep(100 * time.Millisecond) // the poll arrives first
	a, err := s.post(nil, "40")
	posted := time.Now()
	got := <-done
	delay := round(max(0, got.at.Sub(posted)))
	switch {
	case err != nil || a.status != http.StatusOK:
		return nil, false // found elsewhere
	case got.err != nil || got.a.status != http.StatusOK || got.a.cut != nil:
		return func() {
			v.found("buffering", Error, "An answer is held back", fmt.Sprintf("A poll was open, the server had something to say, and within %s it did not arrive whole.", v.o.Timeout),
				"Messages come late or never over long-polling.", outcome("poll", got.a, got.err))
		}, true
	case delay > heldBack:
		return func() {
			v.found("buffering", Error, "An answer is held back",
				fmt.Sprintf("The answer of a poll came %s after the server had it.", delay),
				"Every message over long-polling comes so much later.", got.a.String())
		}, true
	}
	return func() { v.fact("events", "arrive at once on an open poll") }, false
}

// payloads sends bodies up to what the server says that it takes, and has a large answer sent.
func (v *visit) payloads() {
	if !v.sticky {
		return
	}
	limit := v.shake.MaxPayload
	if limit == 0 {
		limit = 1_000_000
	}
	most := min(limit, v.o.MaxBody) - 16
	if most < 1000 {
		return
	}
	passes, refused, proof := 0, 0, ""
	var page *answer
	for _, n := range []int{most, 512 << 10, 256 << 10, 100_000, 32 << 10, 8 << 10, 1000} {
		if n > most || refused > 0 && n >= refused {
			continue
		}
		a, err := v.bodyOf(n)
		if err == nil && a == nil {
			return // no session: found elsewhere
		}
		if err == nil && a.status == http.StatusOK {
			passes = n
			break
		}
		if err == nil && a.status != http.StatusRequestEntityTooLarge && a.status != http.StatusBadRequest && a.status != http.StatusForbidden {
			return // it is not the size
		}
		refused, proof, page = n, outcome("POST of "+size(n), a, err), a
	}
	if refused > 0 && v.ctx.Err() == nil {
		who := "something on the way refuses it"
		if page != nil && page.status == http.StatusRequestEntityTooLarge && page.html() {
			who = "the proxy answers 413 itself, with a page"
		}
		what := fmt.Sprintf("%d bytes pass", passes)
		if passes == 0 {
			what = "no body passes"
		}
		v.found("body-limit", Error, "Bodies that the server takes do not reach it",
			fmt.Sprintf("The server takes %d bytes (maxPayload). Of a POST %s, and %d do not: %s.", limit, what, refused, who),
			"Clients send as much as the server says. A message that is too large for the proxy is lost, and the session with it.", proof)
	} else if passes > 0 {
		v.fact("bodies", "of %d bytes pass; the server takes %d", passes, limit)
	}
	if v.held {
		return // what is slow in any case
	}
	v.largeAnswer()
	v.requestBuffering()
}

// bodyOf sends a POST of n bytes that means nothing: a pong that nobody waits for.
func (v *visit) bodyOf(n int) (*answer, error) {
	s, _, err := v.open(nil, v.jar)
	if s == nil {
		return nil, err
	}
	defer s.end()
	return s.post(nil, "3"+strings.Repeat("x", n-1))
}

// largeAnswer has the server say something long: it repeats the name of a namespace that it does not have.
func (v *visit) largeAnswer() {
	s, _, _ := v.open(nil, v.jar)
	if s == nil {
		return
	}
	defer s.end()
	name := strings.Repeat("atoll-check-", 4000)
	if a, err := s.post(nil, "40/"+name+","); err != nil || a.status != http.StatusOK {
		return
	}
	a, err := s.poll(nil, "Accept-Encoding: gzip")
	if err != nil || a.cut != nil {
		proof := outcome("poll with a large answer", a, err)
		v.found("answer-cut", Error, "A large answer does not arrive whole", fmt.Sprintf("One of some %s ended early.", size(len(name))),
			"Messages are lost, and the session with them. Often the proxy cannot write its temporary files.", proof)
	}
}

// requestBuffering announces a body that is too large, without sending it. A server says at once that it
// does not want it (the official one does not); a proxy that collects bodies first does not even ask.
func (v *visit) requestBuffering() {
	if v.shake.MaxPayload == 0 || !v.isAtoll() {
		return
	}
	proof := ""
	for range 2 { // once may be chance
		s, _, _ := v.open(nil, v.jar)
		if s == nil {
			return
		}
		wait := min(v.o.Timeout, heldBack)
		a, err := s.ask(nil, request{method: http.MethodPost, target: v.target("polling", s.id), declared: v.shake.MaxPayload + 1, wait: wait})
		s.end()
		if err == nil || !isTimeout(err) {
			return
		}
		proof = outcome("POST without its body", a, err)
	}
	v.found("request-buffering", Note, "Bodies are collected before they are passed on",
		"The server was not asked about a body that it would have refused at once.",
		"It costs the proxy memory or a file for each large message, and a moment. Nothing is wrong with it otherwise.", proof)
}
