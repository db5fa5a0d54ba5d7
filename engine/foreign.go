package engine

import "net/http"

// Requests for sessions that are not here: whoever knows where they are may answer them.

// unknown answers a request for a session that is not here.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, id string) {
	if s.o.Foreign == nil || !s.o.Foreign(w, r, id) {
		s.RefuseUnknown(w, r)
	}
}

// RefuseUnknown answers a request as the server answers one for a session that it does not know: with status 400 and
// ErrUnknownSID. It is for what [Options].Foreign calls, where that finds out late that nobody has the session.
// Nothing must have been written to w.
func (s *Server) RefuseUnknown(w http.ResponseWriter, r *http.Request) {
	s.headers(w, r, false)
	s.refuse(w, ErrUnknownSID, "")
}
