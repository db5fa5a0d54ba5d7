package doctor

import (
	"fmt"
	"net/http"
	"slices"
)

// upgrades changes a session to WebSocket, and opens one over WebSocket.
func (v *visit) upgrades() {
	offered := slices.Contains(v.shake.Upgrades, "websocket")
	id, seen, proof := "", "", ""
	if offered && v.sticky {
		id, seen, proof = v.tryUpgrade()
	}
	only, onlySeen, onlyProof := v.tryWebSocket()
	if !offered {
		if only == "" {
			v.fact("WebSocket", "works alone; the server offers no change from polling to it")
		} else {
			v.fact("WebSocket", "not offered by the server")
		}
		return
	}
	if id == "" {
		id, seen, proof = only, onlySeen, onlyProof
	}
	switch id {
	case "":
		v.fact("WebSocket", "works")
	case "upgrade-dropped":
		v.found(id, Error, "The proxy drops the Upgrade header", seen,
			"Clients stay on long-polling, which costs several times as much, and those that use WebSocket alone never connect.", proof)
	case "upgrade-not-sticky":
		v.found(id, Error, "The WebSocket of a session reaches another node than its polling", seen,
			"The change to WebSocket fails, and the client stays on polling. The proxy knows two ways for the two, which do not agree.", proof)
	case "upgrade-hangs":
		v.found(id, Error, "A WebSocket is asked for, and nothing comes", seen,
			"Clients wait in the change to WebSocket, and lose their session when the ping time-out is over.", proof)
	case "upgrade-accept":
		v.found(id, Error, "The answer to a request for a WebSocket is not that of the server", seen,
			"Browsers close such a connection. Something in between answers, from a cache or from a template.", proof)
	case "upgrade-silent":
		v.found(id, Error, "A WebSocket opens, and nothing gets through", seen,
			"The proxy holds back what it should pass on at once.", proof)
	default:
		v.found("upgrade-refused", Error, "WebSockets are refused", seen,
			"Clients stay on long-polling, and those that use WebSocket alone never connect.", proof)
	}
}

// tryUpgrade does what a client does to change to WebSocket. The id is empty if it works.
func (v *visit) tryUpgrade() (id, seen, proof string) {
	s, _, _ := v.open(nil, v.jar)
	if s == nil {
		return "", "", "" // found elsewhere
	}
	ended := false
	defer func() {
		if !ended {
			s.end()
		}
	}()
	ws, a, accepted, err := v.webSocket(s.id, s.cookieHeader()...)
	if id, seen, proof := judge(a, accepted, err, true); id != "" {
		return id, seen, proof
	}
	defer func() { ws.end() }()
	if err = ws.write("2probe"); err == nil {
		err = ws.until("3probe", v.o.Timeout)
	}
	if err != nil {
		return "upgrade-silent", "The probe over the new WebSocket was not answered: " + plain(err) + ".", a.String()
	}
	if err = ws.write("5"); err == nil {
		err = ws.write("40") // is answered, with 40 or 44
	}
	if err == nil {
		err = ws.until("4", v.o.Timeout)
	}
	if err != nil {
		return "upgrade-silent", "The session was not answered over its new WebSocket: " + plain(err) + ".", a.String()
	}
	ended = true
	return "", "", ""
}

// tryWebSocket opens a session over WebSocket alone.
func (v *visit) tryWebSocket() (id, seen, proof string) {
	ws, a, accepted, err := v.webSocket("")
	if id, seen, proof := judge(a, accepted, err, false); id != "" {
		return id, seen, proof
	}
	defer ws.end()
	if err := ws.until("0{", v.o.Timeout); err != nil {
		return "upgrade-silent", "No open packet came over the WebSocket: " + plain(err) + ".", a.String()
	}
	return "", "", ""
}

// judge says what is wrong with the answer to a request for a WebSocket.
func judge(a *answer, accepted bool, err error, upgrade bool) (id, seen, proof string) {
	if err != nil {
		proof = "GET transport=websocket: " + plain(err)
		if isTimeout(err) {
			return "upgrade-hangs", "There was no answer in time.", proof
		}
		return "upgrade-refused", "The connection was closed without an answer.", proof
	}
	if accepted {
		return "", "", ""
	}
	proof = a.String()
	code, own := a.code()
	switch {
	case a.status == http.StatusSwitchingProtocols:
		return "upgrade-accept", "101 came with a Sec-WebSocket-Accept that is not for this key.", proof
	case own && code == 3 || a.status == http.StatusUpgradeRequired:
		return "upgrade-dropped", "The server did not see that a WebSocket was asked for: it answers 400 \"Bad request\".", proof
	case a.status == http.StatusOK:
		return "upgrade-dropped", "An ordinary answer came, 200, as if no WebSocket had been asked for.", proof
	case a.status == http.StatusBadRequest && !own && string(a.body) == "Session ID unknown",
		upgrade && own && code == 1:
		return "upgrade-not-sticky", "The same session is known to polling, and unknown to the node that the WebSocket reached.", proof
	case own && code == 4:
		return "refused-websocket", "The server refuses it with 403.", proof
	}
	return "upgrade-refused", fmt.Sprintf("The answer is %d.", a.status), proof
}
