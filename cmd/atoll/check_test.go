package main

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/internal/doctor"
)

func TestCheck(t *testing.T) {
	srv := atoll.NewServer(nil)
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Close()

	out, err := program("check", web.URL, "--quick", "--json").Output()
	if err != nil {
		t.Fatalf("got %v and %s, want status 0", err, out)
	}
	var r doctor.Report
	if err := json.Unmarshal(out, &r); err != nil || r.Server != "Atoll" || !r.Healthy() || len(r.Facts) == 0 {
		t.Errorf("got %v and %s, want a report with nothing to mend", err, out)
	}

	out, err = program("check", web.URL, "--quick", "--origin", "https://page.test").Output()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 || !strings.Contains(string(e.Stderr), "1 thing to mend") {
		t.Errorf("got %v, want status 1 and how many things there are to mend", err)
	}
	for _, want := range []string{"error: ", "(origin-refused)", `CORS: &engine.CORS{Origins: []string{"https://page.test"}}`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %s, want %q in it", out, want)
		}
	}
	if strings.Contains(string(out), "\x1b") {
		t.Errorf("got %q, want no colours where there is no terminal", out)
	}
}
