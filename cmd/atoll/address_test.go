package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"redis://":  "redis  localhost:6379",
		"redis://h": "redis  h:6379",
		"REDISS+Streams://u:p%2F@[::1]:7,h2/3?a=b": "rediss streams [::1]:7, h2:6379",
		"redis+sharded://u:p@w@h:1,h:2,h:3?mode=x": "redis sharded h:1, h:2, h:3",
		"postgres://u@db/name?sslmode=disable":     "postgres  db:5432",
		"postgresql+native://db:1,db2/name":        "postgresql native db:1, db2:5432",
		"nats://:4000":                             "nats  localhost:4000",
		"tls://a,b:1":                              "tls  a:4222, b:1",
	} {
		a, err := parseAddress(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := a.scheme + " " + a.format + " " + a.place(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{"", "h:6379", "http://x", "nats+native://x", "redis+postgres://x", "redis://secret:%zz@x", "redis://u:secret@x/#y", "redis://u:secret@x/\x7f"} {
		if _, err := parseAddress(in); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want an error that tells no password", in, err)
		}
	}
}

func TestRedisOptions(t *testing.T) {
	a, err := parseAddress("rediss://ada:p%40ss@s1:1,s2:2/5?sentinel=main&sentinel_user=w&sentinel_password=x&skip_verify=true")
	if err != nil {
		t.Fatal(err)
	}
	o, err := a.redisOptions()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.InitAddress, " ") != "s1:1 s2:2" || o.Username != "ada" || o.Password != "p@ss" || o.SelectDB != 5 ||
		o.Sentinel.MasterSet != "main" || o.Sentinel.Username != "w" || o.Sentinel.Password != "x" ||
		!o.TLSConfig.InsecureSkipVerify || o.Sentinel.TLSConfig == nil {
		t.Errorf("got %+v", o)
	}
	if err := a.done(); err != nil {
		t.Errorf("got %v, want that all parameters are known", err)
	}
}

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"lobby ü ✓": "lobby ü ✓", "\x1b[2J": `\x1b[2J`, "a\nb": `a\nb`, "\u009b2J": `\u009b2J`, "\u202egnp": `\u202egnp`,
		"\xff": `\xff`, `say "\d"` + "\a": `say "\d"\a`,
	} {
		if got := safe(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Minute: "1h01m", 47 * time.Hour: "47h00m", 50 * time.Hour: "2d",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
