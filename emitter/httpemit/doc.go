// Package httpemit lets programs in any language emit to the clients of a cluster with
// nothing but HTTP: a JSON object, or a batch of them, in a POST.
//
//	em, err := emitter.Connect(ctx, bus, nil)
//	...
//	h, err := httpemit.New(em, &httpemit.Options{Tokens: []string{os.Getenv("EMIT_TOKEN")}})
//	...
//	http.Handle("POST /emit", h)
//	http.Handle("GET /healthz", h.Health())
//
//	curl -H "Authorization: Bearer $EMIT_TOKEN" -H "Content-Type: application/json" \
//	     -d '{"nsp":"/chat","rooms":["lobby"],"event":"said","args":["hello"]}' localhost:8080/emit
//
// # Requests
//
// The body is one operation, an array of operations (both application/json), or one operation on each line
// (application/x-ndjson). An operation is an object that does one thing, named by one of these fields:
//
//	event       emit an event of this name, with the array args. With "ask":true the acks of the clients
//	            are waited for; with "server":true it goes to the servers' handlers instead of the clients
//	join        the selected clients enter these rooms
//	leave       the selected clients leave these rooms
//	disconnect  true: the selected clients are disconnected from the namespace; with "close":true
//	            their connections are closed
//	query       "count", "sockets" or "rooms": what is asked of the cluster
//
// and says for whom:
//
//	nsp         the namespace; if it is missing, "/"
//	rooms       only clients in one of these rooms: an array of texts, or one text; an id is a room. If it is
//	            missing, all. An empty array is refused: it comes from a program that found nobody, more often
//	            than from one that means everybody
//	except      but none in one of these
//
// and how: "volatile":true and "compress":false, for events; "timeoutMs", for what asks. Unknown fields are refused.
//
// Bytes are written {"$base64":"AAECAw=="}, anywhere in args, and come so in answers. Who means an object that has
// the key $base64 writes the dollar as \u0024.
//
// # Responses
//
// The response to one operation is its result. That to a batch is {"ok":…,"results":[…]}, in the order of
// the operations, which are performed in that order; status 207 says that some failed. A result:
//
//	ok          true: it was done, as far as it goes: the medium took it, or the question was put
//	error, code what went wrong, for people and for programs
//	answers     of "ask": for each ack the array of its arguments
//	count, sockets, rooms
//	            of "query"
//	missing     not all answered: nodes (by name), unnamed (how many more), acks (how many clients), reason
//	truncated   true: there are more answers than the response may have bytes
//
// The codes, with the status of the response to a single operation: invalid 400, unauthorized 401, too_large 413,
// unsupported 422, rate 429, tells_only 501, unavailable and busy 503, timeout 504. A request as a whole fails
// also with wrong_method 405 and wrong_type 415.
//
// What is "unavailable" or "timeout" was not taken by the medium, or nobody knows; nothing is sent again by itself.
package httpemit
