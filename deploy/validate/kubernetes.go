package main

import (
	"bytes"
	"errors"
	"io"
	"regexp"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var decoder = newDecoder()

// newDecoder returns one that refuses unknown and doubled fields, as the API does with fieldValidation=Strict.
func newDecoder() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(scheme); err != nil {
			panic(err) // two types for one name: a mistake in this program
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
}

var kindLine = regexp.MustCompile(`(?m)^apiVersion:`)

func isKubernetes(text []byte) bool { return kindLine.Match(text) }

// kubernetes decodes the objects of a file and puts them into c.
func (f *file) kubernetes(text []byte, c *catalogue) {
	docs := yaml.NewYAMLReader(newReader(text))
	seen := map[string]bool{}
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			f.wrong("%v", err)
			return
		}
		if !isKubernetes(doc) {
			if len(bytes.TrimSpace(comment.ReplaceAll(doc, nil))) > 0 {
				f.wrong("a document without apiVersion")
			}
			continue
		}
		o, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			f.wrong("%v", err)
			continue
		}
		m, err := meta.Accessor(o)
		if err != nil {
			f.wrong("%v", err)
			continue
		}
		name := kind.Kind + " " + m.GetName()
		f.has("%s", name)
		if seen[name] {
			f.wrong("%s: there twice", name)
		}
		seen[name] = true
		for _, p := range validation.IsDNS1123Subdomain(m.GetName()) {
			f.wrong("%s: name: %s", name, p)
		}
		for k, v := range m.GetLabels() {
			for _, p := range append(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)...) {
				f.wrong("%s: label %s: %s", name, k, p)
			}
		}
		for k := range m.GetAnnotations() {
			for _, p := range validation.IsQualifiedName(k) {
				f.wrong("%s: annotation %s: %s", name, k, p)
			}
		}
		c.add(f, name, o)
	}
}

var comment = regexp.MustCompile(`(?m)^\s*#.*$|^---.*$`)
