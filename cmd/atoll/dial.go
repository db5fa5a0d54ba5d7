package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
)

// dial opens a bus that is a server of its own, for a node or for somebody who is none.
func (b *busFlags) dial(ctx context.Context, a *address, node bool) (*bus, error) {
	switch a.scheme {
	case "redis", "rediss":
		return b.dialRedis(a)
	case "postgres", "postgresql":
		return b.dialPostgres(ctx, a)
	default:
		return b.dialNATS(ctx, a, node)
	}
}

func (b *busFlags) dialRedis(a *address) (*bus, error) {
	co, err := a.redisOptions()
	if err != nil {
		return nil, err
	}
	open, err := b.redisFormat(a)
	if err == nil {
		err = a.done()
	}
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(co)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Redis at %s: %w. Is it running, and is the address right?", a.place(), err)
	}
	rb := open(client)
	x := &bus{Bus: rb, name: "Redis at " + a.place(), close: func() error {
		defer client.Close()
		return rb.Close()
	}}
	if a.format == "sharded" {
		x.blind = "Nodes on sharded Redis count who listens to a namespace, so only what is for the rooms named by --room is seen, in the dynamic modes."
	}
	return x, nil
}

// redisFormat takes the parameters of the format, and returns what makes its bus.
func (b *busFlags) redisFormat(a *address) (open func(rueidis.Client) cluster.Bus, err error) {
	switch a.format {
	case "sharded":
		o := &redisshard.Options{Prefix: b.prefix, Logger: slog.Default()}
		mode := string(redisshard.Dynamic)
		err = a.settings(setting{"prefix", &o.Prefix}, setting{"mode", &mode})
		o.Mode = redisshard.Mode(mode)
		if o.Mode != redisshard.Static && o.Mode != redisshard.Dynamic && o.Mode != redisshard.DynamicPrivate {
			err = usagef("the mode of %s is static, dynamic or dynamic-private (subscriptionMode in Node.js), got %q", a.kind(), mode)
		}
		open = func(c rueidis.Client) cluster.Bus { return redisshard.New(c, o) }
	case "streams":
		o := &redisstream.Options{ChannelPrefix: b.prefix, Logger: slog.Default()}
		err = a.settings(setting{"prefix", &o.ChannelPrefix}, setting{"stream", &o.StreamName}, setting{"streams", &o.StreamCount},
			setting{"max_len", &o.MaxLen}, setting{"session_prefix", &o.SessionKeyPrefix}, setting{"sharded", &o.UseShardedPubSub})
		open = func(c rueidis.Client) cluster.Bus { return redisstream.New(c, o) }
	case "native":
		o := &redisbus.Options{Prefix: b.cluster, Logger: slog.Default()}
		err = a.settings(setting{"cluster", &o.Prefix})
		if err == nil {
			err = validCluster(o.Prefix)
		}
		open = func(c rueidis.Client) cluster.Bus { return redisbus.NewNative(c, o) }
	default:
		o := &redisbus.Options{Prefix: b.prefix, Logger: slog.Default()}
		err = a.settings(setting{"prefix", &o.Prefix}, setting{"shared_responses", &o.SharedResponses})
		open = func(c rueidis.Client) cluster.Bus { return redisbus.New(c, o) }
	}
	return open, err
}

// validCluster refuses what cannot name a cluster in formats of our own.
func validCluster(name string) error {
	for _, r := range name {
		if !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') || len(name) > 64 {
			return usagef("the name of a cluster is 1 to 64 letters, digits, - and _, got %q", name)
		}
	}
	return nil
}

func (b *busFlags) dialPostgres(ctx context.Context, a *address) (*bus, error) {
	var open func(*pgxpool.Pool) cluster.Bus
	var err error
	if a.format == "native" {
		o := &pgbus.LogOptions{Logger: slog.Default()}
		if b.cluster != "" {
			if err := validCluster(b.cluster); err != nil {
				return nil, err
			}
			o.Table = strings.ToLower(strings.ReplaceAll(b.cluster, "-", "_")) + "_log"
		}
		err = a.settings(setting{"table", &o.Table}, setting{"keep", &o.Keep}, setting{"rows", &o.MaxRows}, setting{"async", &o.Async})
		open = func(p *pgxpool.Pool) cluster.Bus { return pgbus.NewLog(p, o) }
	} else {
		o := &pgbus.Options{Prefix: b.prefix, Logger: slog.Default()}
		err = a.settings(setting{"prefix", &o.Prefix}, setting{"table", &o.Table})
		open = func(p *pgxpool.Pool) cluster.Bus { return pgbus.New(p, o) }
	}
	if err != nil {
		return nil, err
	}
	u := *a.url
	u.Scheme, u.Host, u.RawQuery = "postgres", strings.Join(a.hosts, ","), a.params.Encode() // what is left is the driver's
	conf, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, usagef("the URL of Postgres is malformed, or has a parameter that its driver does not know") // the error may tell the password
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err == nil {
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err = pool.Ping(ping); err != nil {
			pool.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach Postgres at %s: %w. Is it running, and are address, user and database right?", a.place(), err)
	}
	pb := open(pool)
	return &bus{Bus: pb, name: "Postgres at " + a.place(), close: func() error {
		defer pool.Close()
		return pb.Close()
	}}, nil
}

func (b *busFlags) dialNATS(ctx context.Context, a *address, node bool) (*bus, error) {
	o := &natsbus.Options{Cluster: b.cluster}
	var keep bool
	lo := &natsbus.LogOptions{Logger: slog.Default()}
	err := a.settings(setting{"cluster", &o.Cluster}, setting{"log", &keep}, setting{"keep", &lo.MaxAge},
		setting{"max_bytes", &lo.MaxBytes}, setting{"replicas", &lo.Replicas}, setting{"memory", &lo.Memory})
	if err = errors.Join(err, a.done()); err != nil {
		return nil, err
	}
	if err := validCluster(o.Cluster); err != nil {
		return nil, err
	}
	urls := make([]string, len(a.hosts))
	for i, h := range a.hosts {
		u := url.URL{Scheme: a.scheme, User: a.url.User, Host: h}
		urls[i] = u.String()
	}
	nb, err := natsbus.Connect(ctx, strings.Join(urls, ","), o)
	if err != nil {
		return nil, fmt.Errorf("cannot reach NATS: %w. Is it running, and is the address right?", err)
	}
	name := "NATS at " + nb.Conn().ConnectedAddr()
	if !keep || !node { // who is no node reads and writes what is kept like everything else
		return &bus{Bus: nb, name: name, close: nb.Close}, nil
	}
	log, err := natsbus.OpenLog(ctx, nb, lo)
	if err != nil {
		nb.Close()
		return nil, fmt.Errorf("cannot keep messages on %s: %w. JetStream must be switched on in the NATS server (-js)", name, err)
	}
	return &bus{Bus: log, name: name + " with JetStream", close: log.Close}, nil
}
