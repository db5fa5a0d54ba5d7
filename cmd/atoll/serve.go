package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/demo/jsclient"
	"github.com/atollhq/atoll/recovery"
)

func serveCommand() *cobra.Command {
	var (
		l           listenFlags
		b           busFlags
		d           drainFlags
		static      string
		path        string
		name        string
		id          string
		rooms       bool
		relay       bool
		origins     []string
		credentials bool
		cookie      string
		nsps        []string
		maxBytes    int
		route       bool
		recover     time.Duration
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "A node that passes on what emitters and other nodes send",
		Long: `serve runs a plain node. Its clients get what emitters and the other nodes of its cluster
send; what the clients send themselves goes to nobody unless you say so (--relay).

Nodes on one machine find each other by the name of their cluster. On several machines
they share a Redis, a Postgres or a NATS (--bus). In the official formats of Redis and Postgres,
Node.js servers can be in the same cluster.

SIGTERM drains it (--drain-lead): clients go to other nodes, with --recovery nothing is lost. Ctrl-C does not wait.`,
		Example: `  atoll serve --port 3001
  atoll serve --port 3002 --static ./public       also serves files
  atoll serve --bus redis://localhost:6379        in one cluster with Node.js servers
  atoll serve --rooms --relay                     clients enter rooms, and hear each other`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := d.check(); err != nil {
				return err
			}
			if static != "" {
				if info, err := os.Stat(static); err != nil || !info.IsDir() {
					return usagef("--static %s is not a folder", static)
				}
			}
			path = "/" + strings.Trim(path, "/") + "/"
			if !plainPath.MatchString(path) {
				return usagef("--path %s is no path of plain names, for instance /socket.io/", path)
			}
			o := &atoll.Options{Logger: slog.Default(), Drain: d.options()}
			o.Engine.MaxPayload = maxBytes
			var err error
			if o.Engine.CORS, err = corsOf(origins, credentials); err != nil {
				return err
			}
			if o.Engine.Cookie, err = cookieOf(cookie); err != nil {
				return err
			}
			if err := o.Engine.Validate(); err != nil {
				return usageError{err}
			}
			bus, err := b.open(ctx)
			if err != nil {
				return err
			}
			defer bus.close()
			member, err := cluster.Join(ctx, bus.Bus, &cluster.Options{ID: id, Name: name, Key: key(), RouteRooms: route, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("cannot join the cluster over %s: %w", bus.name, err)
			}
			defer member.Close()
			o.Cluster = member
			if recover > 0 {
				o.Recovery = &recovery.Options{MaxDisconnection: recover}
			}
			srv := atoll.NewServer(o)
			defer srv.Close()
			for i, nsp := range nsps {
				nsps[i] = namespaceName(nsp)
			}
			slices.Sort(nsps)
			for _, nsp := range slices.Compact(nsps) {
				plain(srv.Of(nsp), rooms, relay)
			}
			if len(nsps) == 0 {
				plain(srv.Of("/"), rooms, relay)
				plain(srv.OfPattern(regexp.MustCompile(`^/.`)), rooms, relay)
			}
			return l.serveUntil(ctx, webServer(routes(srv, path, static)), func(url string) {
				fmt.Fprintf(cmd.OutOrStdout(), "Serving %s as node %s, in a cluster of %d over %s. Ctrl-C ends it.\n",
					url, member.Name(), len(member.Peers())+1, bus.name)
			}, drainAtTERM(ctx, srv), srv.Shutdown)
		},
	}
	f := cmd.Flags()
	l.register(f, envPort(3000))
	l.host = envOr(hostEnv, l.host)
	f.Lookup("host").DefValue = l.host
	b.registerNode(f)
	d.register(f)
	f.StringVar(&name, "name", os.Getenv(nameEnv), "name of this node, for people (default: host, program and process id)")
	f.StringVar(&id, "id", "", "fixed id of this node, unlike that of any other, 1 to 64 letters, digits, - and _: balancers can tell its sessions by it (default: a random one)")
	f.StringVar(&path, "path", "/socket.io/", "path of the Socket.IO server")
	f.StringVar(&static, "static", "", "serve the files of this folder, too")
	f.StringSliceVar(&nsps, "namespace", nil, "namespaces that clients may enter (default: all)")
	f.BoolVar(&rooms, "rooms", false, "clients enter and leave rooms themselves, with the events join and leave. They may then enter any room, other sockets' own rooms included, and hear what is sent there")
	f.BoolVar(&relay, "relay", false, "other events of a client go to all other clients of its namespace")
	f.BoolVar(&route, "route-rooms", false, "messages for one room go only to nodes that have members of it, in formats of Atoll's own")
	f.DurationVar(&recover, "recovery", 0, "clients that were cut off for so long get what they missed (default: off)")
	f.StringSliceVar(&origins, "cors-origin", nil, "origins of other sites whose pages may connect, for instance https://example.com")
	f.BoolVar(&credentials, "cors-credentials", false, "those pages may send cookies, with withCredentials: true")
	f.StringVar(&cookie, "cookie", "", "set this cookie with the session id, for balancers: a name, and attributes as in Set-Cookie, for instance \"io; SameSite=None; Secure\"")
	f.IntVar(&maxBytes, "max-payload", 0, "largest message of a client in bytes (default 1000000)")
	return cmd
}

// plainPath is what a ServeMux takes literally, as the path of a subtree.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/$`)

// routes are the paths of a node; path is a plainPath.
func routes(srv *atoll.Server, path, static string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path, srv)
	mux.HandleFunc("GET "+path+"socket.io.js", jsclient.Serve)
	mux.Handle("/health", srv.Health())
	if static != "" {
		mux.Handle("/", http.FileServer(http.Dir(static)))
	}
	return mux
}

// A registrar is a namespace, or the parent of many.
type registrar interface {
	atoll.Registrar
	OnAny(atoll.Handler)
}

const (
	maxRoomName = 256 // bytes
	maxRooms    = 100 // that a client entered by itself
)

// plain sets what a plain node does for its clients.
func plain(to registrar, rooms, relay bool) {
	if rooms {
		atoll.On(to, "join", func(_ context.Context, s *atoll.Socket, room string) error {
			if room == "" || len(room) > maxRoomName || len(s.Rooms()) > maxRooms {
				return &atoll.ReplyError{Args: []any{fmt.Sprintf("a room's name has 1 to %d bytes, and a client may be in %d rooms", maxRoomName, maxRooms)}}
			}
			s.Join(room)
			return nil
		})
		atoll.On(to, "leave", func(_ context.Context, s *atoll.Socket, room string) error {
			s.Leave(room)
			return nil
		})
	}
	if relay {
		to.OnAny(func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			if rooms && (e.Name == "join" || e.Name == "leave") {
				return nil
			}
			return s.Broadcast().Emit(ctx, e.Name, e.Args)
		})
	}
}
