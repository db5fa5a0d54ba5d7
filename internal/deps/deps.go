package deps

import (
	_ "github.com/go-json-experiment/json"
	_ "github.com/gobwas/ws"
	_ "github.com/goccy/go-json"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/klauspost/compress/flate"
	_ "github.com/nats-io/nats-server/v2/server"
	_ "github.com/nats-io/nats.go"
	_ "github.com/redis/rueidis"
	_ "github.com/spf13/cobra"
	_ "github.com/tinylib/msgp/msgp"
	_ "go.uber.org/goleak"
	_ "golang.org/x/time/rate"
)
