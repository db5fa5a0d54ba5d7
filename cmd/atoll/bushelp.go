package main

import "github.com/spf13/cobra"

// busHelp is a topic of help.
func busHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "bus",
		Short: "How to say where the cluster is (help topic)",
		Long: `--bus is a URL. Who has none is in a cluster with the other nodes of this machine.

Together with Node.js servers, in the formats of their adapters:
  redis://user:password@host:6379/0   @socket.io/redis-adapter  ?prefix=socket.io
  redis+sharded://host:6379           its sharded adapter       ?prefix= &mode=dynamic
  redis+streams://host:6379           redis-streams-adapter     ?prefix= &stream=socket.io &streams=1
                                                                &max_len= &session_prefix= &sharded=
  postgres://user:password@host/db    postgres-adapter          ?prefix=socket.io &table=

Atoll nodes only, in a format of their own, in which every message is numbered:
  redis+native://host:6379            ?cluster=atoll
  postgres+native://host/db           ?table=atoll_log &keep=10m &rows=1000000 &async=false
  nats://host:4222                    ?cluster=atoll &log=true (JetStream) &keep=10m &replicas= &memory=

rediss:// and rediss+…:// use TLS: ?ca=FILE for a certificate authority of your own,
?skip_verify=true for none. A Redis Cluster, several NATS, Postgres or sentinels are named with
commas: redis://a:6379,b:6379. Sentinel: redis://s1:26379,s2:26379?sentinel=NAME_OF_MASTER
&sentinel_user= &sentinel_password=. Parameters of Postgres that are not ours go to its driver
(sslmode, application_name, …).

Other users of a machine can see the arguments of a program: put a URL with a password into
ATOLL_BUS instead. ATOLL_KEY, the same on all nodes and emitters, authenticates the messages
in formats of our own.

Examples:
  atoll serve --bus redis://localhost:6379
  ATOLL_BUS=postgres://app:secret@db/chat atoll serve`,
	}
}
