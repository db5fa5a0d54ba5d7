package natsbus

import (
	"strings"
	"testing"
)

func TestConnectHidesSecrets(t *testing.T) {
	for _, url := range []string{
		"nats://user:hush@127.0.0.1:1",
		"nats://user:hush@127.0.0.1:1,nats://user:hush@127.0.0.1:2",
		"user:hush@127.0.0.1:1",
		"nats://hush@127.0.0.1:1",
		"nats://user:hush%zz@127.0.0.1:1",
	} {
		b, err := Connect(t.Context(), url, nil)
		if err == nil {
			b.Close()
			t.Fatalf("Connect(%q): got no error, want one", url)
		}
		if strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "@127.0.0.1:1") {
			t.Errorf("Connect(%q): got error %q, want the address and no secret", url, err)
		}
	}
}
