package chart

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
)

// Again is a report as it would be had the gate's registries and Pod Security Standard been asked for when the chart was
// rendered: those two settings decide what is found, not only what becomes of it. Image is the service's own. It looks at
// the recorded objects. One that was too large to be recorded, and may run pods, is a problem of both policies, as nobody
// can tell.
func Again(r slipway.ManifestReport, image slipway.Repository, gate slipway.ManifestGate) slipway.ManifestReport {
	settings := manifest.Settings{Image: image, Registries: gate.Registries, PodSecurity: gate.PodSecurity}
	before := r.Problems
	r.Problems = slices.DeleteFunc(slices.Clone(before), func(p slipway.ManifestProblem) bool { return byItsSettings(p.Policy) })
	for _, o := range r.Objects {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(o.YAML), &fields); err != nil || fields == nil {
			r.Problems = append(r.Problems, unrecorded(o, before)...)
			continue
		}
		found := slices.DeleteFunc(manifest.Check([]manifest.Object{{Fields: fields}}, settings), func(p slipway.ManifestProblem) bool { return !byItsSettings(p.Policy) })
		for _, p := range bounded(found) {
			p.Place = o.Template
			at := slices.IndexFunc(before, func(b slipway.ManifestProblem) bool {
				return b.Policy == p.Policy && b.Object == p.Object && b.Path == p.Path
			})
			if at >= 0 {
				p.Place, p.Values = before[at].Place, before[at].Values
			}
			r.Problems = append(r.Problems, p)
		}
	}
	return r
}

// byItsSettings reports whether what a policy finds depends on more than the object.
func byItsSettings(policy string) bool {
	return policy == manifest.Registry || policy == manifest.PodSecurity
}

// unrecorded is what is known of an object whose text was not kept: what was found before, and that there may be more.
func unrecorded(o slipway.ManifestObject, before []slipway.ManifestProblem) (out []slipway.ManifestProblem) {
	for _, p := range before {
		if byItsSettings(p.Policy) && p.Object == o.Name {
			out = append(out, p)
		}
	}
	switch kind, _, _ := strings.Cut(o.Name, "/"); kind {
	case "ConfigMap", "Secret", "CustomResourceDefinition": // large ones are of these kinds
		return out
	}
	for _, policy := range []string{manifest.Registry, manifest.PodSecurity} {
		out = append(out, slipway.ManifestProblem{Policy: policy, Object: o.Name, Place: o.Template,
			Message: "more is asked of it than when it was rendered, and it was too large to be recorded: run the chart step again"})
	}
	return out
}
