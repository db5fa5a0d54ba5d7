package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every manifest of deploy/ is found right.
func TestDeploy(t *testing.T) {
	files, err := validate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, p := range f.problems {
			t.Errorf("%s: %s", f.name, p)
		}
	}
	if len(files) < 8 {
		t.Errorf("got %d files, want 8 or more", len(files))
	}
}

// A mistake in a manifest is found, and called by its name.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ file, old, new, want string }{
		{"kubernetes/atoll.yaml", "revisionHistoryLimit", "revisionHistoryLimits", "unknown field"},
		{"kubernetes/atoll.yaml", "replicas: 3", "replicas: three", "unmarshal"},
		{"kubernetes/atoll.yaml", "  replicas: 3\n", "  replicas: 3\n  replicas: 3\n", "replicas"},
		{"kubernetes/atoll.yaml", "apps/v1", "apps/v1beta9", "no kind"},
		{"kubernetes/atoll.yaml", "targetPort: http }", "targetPort: htp }", `no pod has a port called "htp"`},
		{"kubernetes/atoll.yaml", "path: /health, port: http", "path: /health, port: web", `no port called "web"`},
		{"kubernetes/atoll.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30", "a drain takes up to 45s"},
		{"kubernetes/atoll.yaml", "  selector: { app.kubernetes.io/name: atoll }", "  selector: { app.kubernetes.io/name: atol }", "selects no pods"},
		{"kubernetes/atoll.yaml", "    matchLabels: { app.kubernetes.io/name: atoll }\n  strategy", "    matchLabels: { app: atoll }\n  strategy", "does not match"},
		{"kubernetes/atoll-nats.yaml", "serviceName: atoll-nodes", "serviceName: nodes", `no Service "nodes"`},
		{"kubernetes/atoll-nats.yaml", "name: tmp, mountPath", "name: temp, mountPath", `no volume "temp"`},
		{"kubernetes/ingress.yaml", "name: http }", "name: https }", "no Service atoll with port https"},
		{"kubernetes/ingress.yaml", `proxy-read-timeout: "120"`, `proxy-read-timeout: 120`, "number"},
		{"kubernetes/httproute.yaml", "port: 80", "port: 81", "no Service atoll"},
		{"kubernetes/httproute.yaml", "backendRefs", "backends", "unknown field"},
		{"kubernetes/hpa.yaml", "name: atoll\n  minReplicas", "name: atol\n  minReplicas", "no Deployment atol"},
		{"compose/compose.yaml", "stop_grace_period", "stop_grace_time", "services.atoll.stop_grace_time"},
		{"compose/compose.yaml", "redis: { condition", "reddis: { condition", "reddis"},
		{"compose/compose.yaml", "compose/Dockerfile", "compose/Containerfile", "Containerfile"},
		{"compose/Dockerfile", "WORKDIR", "WORKDIRECTORY", "unknown instruction"},
		{"compose/Dockerfile", "--from=build /etc", "--from=builder /etc", "no such stage"},
		{"compose/Dockerfile", "COPY go.mod", "COPY gone.mod", "gone.mod"},
	} {
		root := t.TempDir()
		if err := os.CopyFS(filepath.Join(root, "deploy"), os.DirFS("..")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"go.mod", "go.sum"} { // of the Dockerfile's COPY
			if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(root, "deploy", c.file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), c.old, c.new, 1)
		if changed == string(text) {
			t.Errorf("%s has no %q any more", c.file, c.old)
			continue
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := validate(root)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			got = append(got, f.problems...)
		}
		if !strings.Contains(strings.Join(got, "\n"), c.want) {
			t.Errorf("%s with %q: got %q, want %q", c.file, c.new, got, c.want)
		}
	}
}
