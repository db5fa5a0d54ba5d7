//go:build unix

package proxies

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func init() {
	setUps = append(setUps, setUp{
		name: "Traefik by labels", program: "traefik", file: "compose/compose.yaml", loose: true, once: true,
		start: startComposed,
	})
}

// A compose is what this test looks at of a compose file.
type compose struct {
	Services map[string]struct {
		Command []string
		Labels  map[string]string
	}
}

// startComposed starts Traefik as deploy/compose/compose.yaml has it, where it finds the nodes by their labels. No engine runs
// here, so it asks one that only tells it of the containers: they are the nodes, all on one address, so each
// has a port of its own.
func startComposed(t testing.TB, f *front) {
	t.Helper()
	b, err := os.ReadFile("../../deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	var e engine
	for i, n := range f.nodes {
		labels := map[string]string{}
		for k, v := range c.Services["atoll"].Labels {
			labels[k] = v
		}
		host, port, err := net.SplitHostPort(n.addr)
		if err != nil {
			t.Fatal(err)
		}
		const key = "traefik.http.services.atoll.loadbalancer.server.port"
		if labels[key] != "3000" {
			t.Fatalf("got %s %q, want 3000", key, labels[key])
		}
		labels[key] = port
		e = append(e, container{id: fmt.Sprintf("c%d", i+1), host: host, labels: labels})
	}
	ask := httptest.NewServer(e)
	t.Cleanup(ask.Close)
	args := []string{"--providers.docker.endpoint=" + strings.Replace(ask.URL, "http:", "tcp:", 1)}
	for _, a := range c.Services["traefik"].Command {
		args = append(args, strings.Replace(a, "=:80", "="+f.addr(), 1))
	}
	if last := len(args) - 1; !strings.Contains(strings.Join(args[:last+1], " "), "="+f.addr()) {
		t.Fatalf("got %q, want an entry point at :80", args)
	}
	bin, _ := findTraefik()
	p := launch(t, f.dir, bin, args...)
	p.await(t, f.routed)
}

// An engine answers as Docker's does, to who asks for its containers.
type engine []container

type container struct {
	id, host string
	labels   map[string]string
}

func (e engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type object = map[string]any
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Api-Version", "1.45")
	say := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	_, path, versioned := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	if !versioned || !strings.HasPrefix(r.URL.Path, "/v") {
		path = strings.TrimPrefix(r.URL.Path, "/")
	}
	switch path {
	case "_ping":
	case "version":
		say(object{"Version": "26.0.0", "ApiVersion": "1.45", "Os": "linux"})
	case "events": // none
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "containers/json":
		list := []object{}
		for _, c := range e {
			list = append(list, object{"Id": c.id, "Names": []string{"/" + c.id}, "Labels": c.labels, "State": "running"})
		}
		say(list)
	default:
		for _, c := range e {
			if path == "containers/"+c.id+"/json" {
				say(object{
					"Id": c.id, "Name": "/" + c.id, "State": object{"Status": "running", "Running": true},
					"HostConfig": object{"NetworkMode": "atoll_default"}, "Config": object{"Labels": c.labels},
					"NetworkSettings": object{"Networks": object{"atoll_default": object{"NetworkID": "n", "IPAddress": c.host}}},
				})
				return
			}
		}
		http.NotFound(w, r)
	}
}
