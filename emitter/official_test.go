//go:build unix

package emitter_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/internal/msgpack"
	"github.com/atollhq/atoll/internal/pgtest"
	"github.com/atollhq/atoll/internal/redistest"
)

// A recording is what an official emitter wrote for one call.
type recording struct {
	ID, Topic string
	Fields    map[string]string // of an entry of the stream
	Payload   []byte            // of a notification, or of the row that it names
	Attached  bool
}

// recordings returns those of one package by the name of the call.
func recordings(t *testing.T, of string) map[string]recording {
	t.Helper()
	f, err := os.Open("testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make(map[string]recording)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r recording
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(r.ID, of+"/"); ok {
			all[name] = r
		}
	}
	if len(all) != len(official) {
		t.Fatalf("got %d recordings of %s, want %d", len(all), of, len(official))
	}
	return all
}

// decoded is what a message says, as JSON or MessagePack.
func decoded(t *testing.T, data []byte) any {
	t.Helper()
	if len(data) > 0 && data[0] != '{' {
		var attachments [][]byte
		var err error
		if data, attachments, _, err = msgpack.AppendJSON(nil, data, nil); err != nil {
			t.Fatal(err)
		}
		data = append(data, fmt.Sprintf("\n%x", attachments)...)
	}
	text, attachments, _ := strings.Cut(string(data), "\n")
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return []any{v, attachments}
}

// TestOfficialStreams checks that the same calls add the same entries as the official emitter for streams.
func TestOfficialStreams(t *testing.T) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{redistest.Start(t).Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bus := redisstream.New(client, nil)
	defer bus.Close()
	em := emitter.New(bus, nil)
	for name, r := range recordings(t, "redis-streams-emitter") {
		if name == "13-emit-namespace-noslash" { // nobody gets what the official one writes there
			for k, v := range r.Fields {
				r.Fields[k] = strings.ReplaceAll(strings.ReplaceAll(v, `"nsp":"admin"`, `"nsp":"/admin"`), "admin", "/admin")
				r.Fields[k] = strings.ReplaceAll(r.Fields[k], "//", "/")
			}
		}
		if err := official[name](t.Context(), em); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		last, err := client.Do(t.Context(), client.B().Xrevrange().Key(r.Topic).End("+").Start("-").Count(1).Build()).AsXRange()
		if err != nil || len(last) != 1 {
			t.Fatalf("%s: got %v and %v, want an entry", name, last, err)
		}
		if got := last[0].FieldValues; !reflect.DeepEqual(got, r.Fields) {
			t.Errorf("%s: got %v, want %v", name, got, r.Fields)
		}
	}
}

// TestOfficialPostgres checks that the same calls notify of the same as the official emitter for Postgres, and of
// the namespace, without which the newer adapters of Node.js drop it.
func TestOfficialPostgres(t *testing.T) {
	server := pgtest.Start(t)
	ctx, url := t.Context(), server.URL(server.Database(t))
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	bus := pgbus.New(pool, nil)
	defer bus.Close()
	em := emitter.New(bus, nil)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, channel := range []string{"socket.io#/", "socket.io#/admin"} {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range recordings(t, "postgres-emitter") {
		if err := official[name](ctx, em); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data := []byte(n.Payload)
		var header struct{ AttachmentID string }
		if err := json.Unmarshal(data, &header); err != nil || header.AttachmentID != "" != r.Attached {
			t.Errorf("%s: got %s, want that it is in a row: %t", name, data, r.Attached)
			continue
		}
		if r.Attached {
			if err := conn.QueryRow(ctx, "SELECT payload FROM socket_io_attachments WHERE id = $1", header.AttachmentID).Scan(&data); err != nil {
				t.Fatal(err)
			}
		}
		got, want := decoded(t, data), decoded(t, r.Payload)
		message := got.([]any)[0].(map[string]any)
		if nsp := "socket.io#" + fmt.Sprint(message["nsp"]); nsp != r.Topic || n.Channel != r.Topic {
			t.Errorf("%s: got the namespace of %s on %s, want %s", name, nsp, n.Channel, r.Topic)
		}
		delete(message, "nsp")
		for _, m := range []any{message, want.([]any)[0]} { // flags without any say nothing
			if opts, ok := m.(map[string]any)["data"].(map[string]any)["opts"].(map[string]any); ok && reflect.DeepEqual(opts["flags"], map[string]any{}) {
				delete(opts, "flags")
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s, want %s", name, shown(data), shown(r.Payload))
		}
	}
}

// shown is a message for people.
func shown(data []byte) string {
	if len(data) > 0 && data[0] == '{' {
		return string(data)
	}
	return base64.StdEncoding.EncodeToString(data)
}
