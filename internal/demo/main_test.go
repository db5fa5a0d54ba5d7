package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleEnv makes the test program one of the processes that a test needs.
const roleEnv = "ATOLL_DEMO_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "node":
		if err := RunNode(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "serves": // says that it serves, ends with its input
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Println("some other line")
		_ = json.NewEncoder(os.Stdout).Encode(Ready{URL: "http://127.0.0.1:1"})
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "stubborn": // does not end with its input
		signal.Ignore(os.Interrupt)
		_ = json.NewEncoder(os.Stdout).Encode(Ready{URL: "http://127.0.0.1:1"})
		time.Sleep(time.Minute)
	case "mute": // never serves
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "fails":
		fmt.Fprintln(os.Stderr, "no luck")
		os.Exit(3)
	}
}

// as returns the command that runs this test program in a role.
func as(role string) func(string) *exec.Cmd {
	return func(string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"="+role)
		return cmd
	}
}
