package doctor

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// startIdle has a poll and a WebSocket wait for the server's ping, while other things are looked at.
// What it returns waits for them.
func (v *visit) startIdle() (waits []func()) {
	if v.shake.PingInterval <= 0 || v.shake.interval() > 2*time.Minute {
		v.fact("idle connections", "not looked at: the server pings every %s", v.shake.interval())
		return nil
	}
	start := func(f func()) {
		done := make(chan struct{})
		v.idle.Go(func() {
			defer close(done)
			f()
		})
		waits = append(waits, func() { <-done })
	}
	if v.sticky {
		start(v.idlePoll)
	}
	start(v.idleSocket)
	return waits
}

// idleSlack is how much later than announced a ping may come.
const idleSlack = 5 * time.Second

// idlePoll has a poll wait for a ping.
func (v *visit) idlePoll() {
	s, _ := v.connect()
	if s == nil {
		return
	}
	defer s.end()
	limit := v.shake.interval() + idleSlack
	for opened := time.Now(); ; {
		began := time.Now()
		q := request{method: http.MethodGet, target: v.target("polling", s.id), wait: limit}
		a, err := s.ask(nil, q)
		took := time.Since(began)
		if v.ctx.Err() != nil {
			return
		}
		if err == nil && a.status == http.StatusOK && !a.html() {
			if has(string(a.body), "2") {
				v.fact("long polls", "live until the server's ping, after %s", round(took))
				return
			}
			if time.Since(opened) < limit {
				continue // an event of the application
			}
		}
		proof := outcome("poll", a, err)
		seen := fmt.Sprintf("A poll that waited for the server ended after %s; the server pings every %s.", round(took), v.shake.interval())
		switch {
		case err == nil && (a.status == http.StatusGatewayTimeout || a.html()):
			seen += fmt.Sprintf(" The proxy answered %d itself.", a.status)
		case err == nil && a.unknown():
			seen += " The proxy gave up, and asked another node, which does not have the session."
		case err == nil:
			seen += fmt.Sprintf(" The answer was %d.", a.status)
		default:
			if isTimeout(err) {
				v.found("ping-missing", Error, "The server's ping does not arrive", fmt.Sprintf("A poll waited %s, and the server pings every %s.", round(took), v.shake.interval()),
					"Something holds the answer back. The client thinks that the server is gone, and begins anew.", proof)
				return
			}
			seen += " The connection was closed from there."
		}
		v.found("poll-timeout", Error, "The proxy cuts polls that wait", seen,
			"A client that nothing is said to for a while is thrown out and begins anew, again and again.", proof)
		return
	}
}

// idleSocket has a WebSocket wait for a ping.
func (v *visit) idleSocket() {
	ws, a, _, err := v.webSocket("")
	if err != nil || ws == nil {
		return // found elsewhere
	}
	defer ws.end()
	if ws.until("0{", v.o.Timeout) != nil || ws.write("40") != nil {
		return
	}
	began, end := time.Now(), time.Now().Add(v.shake.interval()+idleSlack)
	for {
		m, err := ws.read(time.Until(end))
		took := time.Since(began)
		if v.ctx.Err() != nil {
			return
		}
		if err == nil {
			if m == "2" {
				_ = ws.write("3")
				v.fact("idle WebSockets", "live until the server's ping, after %s", round(took))
				return
			}
			if !strings.HasPrefix(m, "4") {
				continue
			}
			began = time.Now()
			continue
		}
		how := "without a word, so not by the server"
		if c, ok := errors.AsType[*closedError](err); ok {
			how = "with a close frame: " + c.Error()
		}
		if isTimeout(err) {
			v.found("ping-missing", Error, "The server's ping does not arrive", fmt.Sprintf("A WebSocket was silent for %s, and the server pings every %s.", round(took), v.shake.interval()),
				"Something holds it back. The client thinks that the server is gone, and begins anew.", a.String())
			return
		}
		v.found("websocket-timeout", Error, "The proxy cuts WebSockets that are silent",
			fmt.Sprintf("One was closed after %s, %s; the server pings every %s.", round(took), how, v.shake.interval()),
			"A client that nothing is said to for a while is thrown out and begins anew, again and again.", "WebSocket: "+plain(err))
		return
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
