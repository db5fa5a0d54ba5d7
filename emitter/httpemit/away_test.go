package httpemit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

// A sink is a bus on which nobody listens.
type sink struct {
	err  error
	wait bool // until the context ends
}

func (s *sink) Publish(ctx context.Context, _ string, _ []byte) error {
	if s.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.err
}

func (s *sink) Subscribe(context.Context, string, func(string, []byte)) (cluster.Subscription, error) {
	return nil, errors.New("nobody listens")
}

func (s *sink) Close() error { return nil }

func TestMediumAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &sink{}
		h, err := httpemit.New(emitter.New(bus, nil), &httpemit.Options{Tokens: []string{token}, MaxTime: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		health := func() int {
			w := httptest.NewRecorder()
			h.Health().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
			return w.Code
		}
		want := func(code int, part string, healthy int) {
			t.Helper()
			got, body := post(t, h, jsonType, `{"event":"x"}`)
			if got != code || !strings.Contains(body, part) {
				t.Errorf("got %d %s, want %d %s", got, body, code, part)
			}
			if got := health(); got != healthy {
				t.Errorf("health: got %d, want %d", got, healthy)
			}
		}
		want(200, `"ok":true`, 200)
		bus.err = errors.New("away")
		want(503, `"code":"unavailable"`, 503)
		bus.err = nil
		want(200, `"ok":true`, 200)
		bus.wait = true
		want(504, `"code":"timeout"`, 503)
		code, body := post(t, h, jsonType, `[{"event":"x"},{"event":"y"}]`)
		if code != 207 || !strings.Contains(body, "this operation was not begun") {
			t.Errorf("got %d %s, want 207 and that the second was not begun", code, body)
		}
		time.Sleep(11 * time.Second)
		if got := health(); got != 200 {
			t.Errorf("health 11 s later: got %d, want 200", got)
		}
		bus.wait, bus.err = false, fmt.Errorf("no: %w", cluster.ErrTooLarge)
		want(413, `"code":"too_large"`, 200)
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}, Rate: 2, MaxBatch: 4})
		if err != nil {
			t.Fatal(err)
		}
		four := "[" + strings.Repeat(`{"event":"x"},`, 3) + `{"event":"x"}]`
		for i, want := range []int{200, 429, 200} {
			if i == 2 {
				time.Sleep(2 * time.Second)
			}
			if code, got := post(t, h, jsonType, four); code != want {
				t.Errorf("request %d: got %d %s, want %d", i, code, got, want)
			}
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := httpemit.New(emitter.New(&sink{wait: true}, nil), &httpemit.Options{Tokens: []string{token}, MaxRequests: 1, MaxTime: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		go post(t, h, jsonType, `{"event":"x"}`)
		synctest.Wait()
		if code, got := post(t, h, jsonType, `{"event":"x"}`); code != 503 || !strings.Contains(got, `"code":"busy"`) {
			t.Errorf("got %d %s, want 503 busy", code, got)
		}
	})
}

// A body that comes slowly holds a place no longer than MaxTime where the server says so; here only that an
// interrupted one is told from a whole one.
func TestInterrupted(t *testing.T) {
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(`{"event":"x"}`), brokenReader{}))
	r.Header.Set("Authorization", "bearer "+token)
	r.Header.Set("Content-Type", jsonType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("got %d %s, want 400", w.Code, w.Body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
