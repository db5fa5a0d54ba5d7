package main

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func newReader(text []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(text)) }

// A catalogue holds what all files name and define. Files that take each other's place define the same names, so a
// name is there if any of them has it.
type catalogue struct {
	services  map[string][]*corev1.Service
	workloads map[string]bool // kind and name
	pods      []*corev1.PodTemplateSpec
	later     []func()
}

func newCatalogue() *catalogue {
	return &catalogue{services: map[string][]*corev1.Service{}, workloads: map[string]bool{}}
}

// check looks at what needs all files.
func (c *catalogue) check() {
	for _, f := range c.later {
		f()
	}
}

// add takes an object in.
func (c *catalogue) add(f *file, name string, o runtime.Object) {
	wrong := func(format string, args ...any) { f.wrong("%s: %s", name, fmt.Sprintf(format, args...)) }
	then := func(do func()) { c.later = append(c.later, do) }
	switch o := o.(type) {
	case *appsv1.Deployment:
		c.workload(wrong, name, o.Spec.Selector, &o.Spec.Template, nil)
	case *appsv1.StatefulSet:
		c.workload(wrong, name, o.Spec.Selector, &o.Spec.Template, o.Spec.VolumeClaimTemplates)
		then(func() {
			if len(c.services[o.Spec.ServiceName]) == 0 {
				wrong("there is no Service %q", o.Spec.ServiceName)
			}
		})
	case *corev1.Service:
		c.services[o.Name] = append(c.services[o.Name], o)
		then(func() { c.service(wrong, o) })
	case *corev1.Secret, *corev1.ConfigMap:
	case *networkingv1.Ingress:
		then(func() { c.ingress(wrong, o) })
	case *gatewayv1.HTTPRoute:
		then(func() { c.route(wrong, o) })
	case *policyv1.PodDisruptionBudget:
		then(func() {
			if o.Spec.MinAvailable != nil && o.Spec.MaxUnavailable != nil {
				wrong("minAvailable and maxUnavailable exclude each other")
			}
			if len(c.selected(wrong, o.Spec.Selector)) == 0 {
				wrong("it selects no pods")
			}
		})
	case *autoscalingv2.HorizontalPodAutoscaler:
		then(func() {
			if to := o.Spec.ScaleTargetRef; !c.workloads[to.Kind+" "+to.Name] {
				wrong("there is no %s %s", to.Kind, to.Name)
			}
			if least := o.Spec.MinReplicas; least != nil && *least > o.Spec.MaxReplicas {
				wrong("minReplicas %d is above maxReplicas %d", *least, o.Spec.MaxReplicas)
			}
		})
	default:
		wrong("validate does not know this kind")
	}
}

// workload looks at pods and what makes them.
func (c *catalogue) workload(wrong func(string, ...any), name string, s *metav1.LabelSelector, pod *corev1.PodTemplateSpec, claims []corev1.PersistentVolumeClaim) {
	c.workloads[name] = true
	c.pods = append(c.pods, pod)
	if selector, err := metav1.LabelSelectorAsSelector(s); err != nil || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
		wrong("its selector %v does not match the labels %v of its pods (%v)", s, pod.Labels, err)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range claims {
		volumes[v.Name] = true
	}
	ports := map[string]bool{}
	for _, box := range pod.Spec.Containers {
		if box.Image == "" {
			wrong("container %s has no image", box.Name)
		}
		for _, p := range box.Ports {
			if ports[p.Name] {
				wrong("two ports are called %q", p.Name)
			}
			ports[p.Name] = true
			for _, problem := range append(validation.IsValidPortName(p.Name), validation.IsValidPortNum(int(p.ContainerPort))...) {
				wrong("port %q: %s", p.Name, problem)
			}
		}
		for _, m := range box.VolumeMounts {
			if !volumes[m.Name] {
				wrong("there is no volume %q", m.Name)
			}
		}
		for _, p := range []*corev1.Probe{box.ReadinessProbe, box.LivenessProbe, box.StartupProbe} {
			switch {
			case p == nil:
			case p.HTTPGet != nil:
				portIn(wrong, ports, p.HTTPGet.Port)
			case p.TCPSocket != nil:
				portIn(wrong, ports, p.TCPSocket.Port)
			}
		}
		for resource, most := range box.Resources.Limits {
			if least := box.Resources.Requests[resource]; least.Cmp(most) > 0 {
				wrong("it requests more %s than its limit", resource)
			}
		}
		drain(wrong, box.Args, pod.Spec.TerminationGracePeriodSeconds)
	}
}

var drainFlag = regexp.MustCompile(`^--drain-(lead|window)=(.*)$`)

const endGrace = 10 * time.Second // what `atoll serve` takes after a drain at most

// drain looks whether a node has the time that it is told to drain in.
func drain(wrong func(string, ...any), args []string, grace *int64) {
	var all time.Duration
	for _, a := range args {
		m := drainFlag.FindStringSubmatch(a)
		if m == nil {
			continue
		}
		d, err := time.ParseDuration(m[2])
		if err != nil {
			wrong("%s: %v", a, err)
		}
		all += d
	}
	has := 30 * time.Second // the default
	if grace != nil {
		has = time.Duration(*grace) * time.Second
	}
	if all > 0 && has < all+endGrace {
		wrong("terminationGracePeriodSeconds is %v, but a drain takes up to %v", has, all+endGrace)
	}
}

func portIn(wrong func(string, ...any), named map[string]bool, p intstr.IntOrString) {
	if p.Type == intstr.String && !named[p.StrVal] {
		wrong("there is no port called %q", p.StrVal)
	}
}

// selected returns the pods that s selects.
func (c *catalogue) selected(wrong func(string, ...any), s *metav1.LabelSelector) []*corev1.PodTemplateSpec {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		wrong("selector: %v", err)
		return nil
	}
	var found []*corev1.PodTemplateSpec
	for _, p := range c.pods {
		if selector.Matches(labels.Set(p.Labels)) {
			found = append(found, p)
		}
	}
	return found
}

func (c *catalogue) service(wrong func(string, ...any), s *corev1.Service) {
	pods := c.selected(wrong, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	if len(s.Spec.Selector) == 0 || len(pods) == 0 {
		wrong("it selects no pods")
	}
	for _, p := range s.Spec.Ports {
		if p.TargetPort.Type != intstr.String {
			continue
		}
		found := false
		for _, pod := range pods {
			for _, box := range pod.Spec.Containers {
				for _, port := range box.Ports {
					found = found || port.Name == p.TargetPort.StrVal
				}
			}
		}
		if !found {
			wrong("no pod has a port called %q", p.TargetPort.StrVal)
		}
	}
}

// serves reports whether a Service with the name has the port.
func (c *catalogue) serves(name, port string, number int32) bool {
	for _, s := range c.services[name] {
		for _, p := range s.Spec.Ports {
			if port != "" && p.Name == port || port == "" && p.Port == number {
				return true
			}
		}
	}
	return false
}

func (c *catalogue) ingress(wrong func(string, ...any), o *networkingv1.Ingress) {
	for _, r := range o.Spec.Rules {
		for _, p := range validation.IsDNS1123Subdomain(r.Host) {
			wrong("host %q: %s", r.Host, p)
		}
		if r.HTTP == nil {
			wrong("host %s has no paths", r.Host)
			continue
		}
		for _, p := range r.HTTP.Paths {
			if p.PathType == nil {
				wrong("path %s has no pathType", p.Path)
			}
			to := p.Backend.Service
			if to == nil {
				wrong("path %s has no service", p.Path)
			} else if !c.serves(to.Name, to.Port.Name, to.Port.Number) {
				wrong("there is no Service %s with port %s%d", to.Name, to.Port.Name, to.Port.Number)
			}
		}
	}
}

var gatewayDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func (c *catalogue) route(wrong func(string, ...any), o *gatewayv1.HTTPRoute) {
	for _, r := range o.Spec.Rules {
		if t := r.Timeouts; t != nil && t.Request != nil && !gatewayDuration.MatchString(string(*t.Request)) {
			wrong("timeout %q is no duration", *t.Request)
		}
		for _, to := range r.BackendRefs {
			if to.Port == nil || !c.serves(string(to.Name), "", int32(*to.Port)) {
				wrong("there is no Service %s with this port", to.Name)
			}
		}
	}
}
