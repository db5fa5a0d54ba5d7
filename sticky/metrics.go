package sticky

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Metrics returns a handler that tells the figures of l in the text format of Prometheus, under names that begin with
// atoll_balancer_. It says how the nodes are, so serve it where clients cannot see it; see [Balancer.Admin].
func (l *Balancer) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if r.Method == http.MethodGet {
			l.writeMetrics(w)
		}
	})
}

// An exposition writes metrics.
type exposition struct{ *bufio.Writer }

func (e exposition) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP atoll_balancer_%s %s\n# TYPE atoll_balancer_%s %s\n", name, help, name, kind)
}

// sample writes a value; labels are names and values by turns.
func (e exposition) sample(name string, value float64, labels ...string) {
	e.WriteString("atoll_balancer_" + name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		e.WriteString(sep + labels[i] + `="` + escapeLabel.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		e.WriteByte('}')
	}
	e.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (l *Balancer) writeMetrics(w io.Writer) {
	e := exposition{bufio.NewWriter(w)}
	defer e.Flush()
	list := l.view.Load().list
	names := make([][]string, len(list))
	for i, b := range list {
		names[i] = []string{"backend", b.url.Host, "name", b.label()}
	}
	each := func(name, kind, help string, value func(*backend) float64) {
		e.family(name, kind, help)
		for i, b := range list {
			e.sample(name, value(b), names[i]...)
		}
	}
	each("up", "gauge", "Whether the node answers, 0 or 1.", func(b *backend) float64 { return flag(b.serves()) })
	each("takes_sessions", "gauge", "Whether the node gets new sessions, 0 or 1.", func(b *backend) float64 { return flag(b.now() == Up) })
	each("weight", "gauge", "The share of new sessions.", func(b *backend) float64 { return float64(b.weight.Load()) })
	each("sessions", "gauge", "Live sessions.", func(b *backend) float64 { return float64(b.sessions.Load()) })
	each("websockets", "gauge", "Open WebSockets.", func(b *backend) float64 { return float64(b.sockets.Load()) })
	each("active_requests", "gauge", "Requests under way, WebSockets not counted.", func(b *backend) float64 { return float64(b.active.Load()) })
	each("requests_total", "counter", "Requests that were sent to the node.", func(b *backend) float64 { return float64(b.requests.Load()) })
	each("errors_total", "counter", "Requests that the node failed.", func(b *backend) float64 { return float64(b.errors.Load()) })
	each("retries_total", "counter", "Requests that were sent to another node afterwards.", func(b *backend) float64 { return float64(b.retries.Load()) })
	each("suspicions_total", "counter", "How often the node got no new sessions for a moment because it failed requests.", func(b *backend) float64 { return float64(b.suspicions.Load()) })
	e.family("responses_total", "counter", "Answers of the node, by the class of their status.")
	for i, b := range list {
		for class := 1; class < len(b.statuses); class++ {
			if n := b.statuses[class].Load(); n > 0 {
				e.sample("responses_total", float64(n), append(names[i], "code", strconv.Itoa(class)+"xx")...)
			}
		}
	}
	e.family("refused_total", "counter", "Requests that the balancer refused.")
	for r := granted + 1; r < reasons; r++ {
		e.sample("refused_total", float64(l.refused[r].Load()), "reason", r.String())
	}
	e.family("request_duration_seconds", "histogram", "How long requests took; a poll waits for what there is to say.")
	for op := range operations {
		l.latency[op].write(e, op.String())
	}
	n, evicted := l.table.len()
	e.family("remembered_sessions", "gauge", "Sessions in the table.")
	e.sample("remembered_sessions", float64(n))
	e.family("evicted_sessions_total", "counter", "Sessions that were forgotten because the table was full.")
	e.sample("evicted_sessions_total", float64(evicted))
	e.family("reloads_total", "counter", "Changes of the configuration.")
	e.sample("reloads_total", float64(l.changes.Load()), "result", "ok")
	e.sample("reloads_total", float64(l.failures.Load()), "result", "failed")
	e.family("start_time_seconds", "gauge", "When the balancer started, in seconds since 1970.")
	e.sample("start_time_seconds", float64(l.start.UnixMilli())/1000)
}

func (h *histogram) write(e exposition, op string) {
	const name = "request_duration_seconds"
	var total uint64
	for i, bound := range bounds {
		total += h.counts[i].Load()
		e.sample(name+"_bucket", float64(total), "operation", op, "le", strconv.FormatFloat(bound.Seconds(), 'g', -1, 64))
	}
	total += h.counts[len(bounds)].Load()
	e.sample(name+"_bucket", float64(total), "operation", op, "le", "+Inf")
	e.sample(name+"_sum", float64(h.sum.Load())/1e9, "operation", op)
	e.sample(name+"_count", float64(total), "operation", op)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
