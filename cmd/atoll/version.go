package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/internal/demo/jsclient"
)

func versionCommand() *cobra.Command {
	var licenses bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "The version of this program",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "atoll %s\n%s %s/%s\nSocket.IO protocol 5, Engine.IO protocol 4\nsocket.io-client %s (served under /socket.io/socket.io.js)\n",
				version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, jsclient.Version)
			if licenses {
				fmt.Fprintf(out, "\nsocket.io-client\n\n%s\n", jsclient.License)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&licenses, "licenses", false, "print the licence of the embedded client, too")
	return cmd
}

// version is the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "commit " + s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}
