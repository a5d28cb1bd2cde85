package chart

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
)

const (
	maxObjectYAML  = 64 << 10  // bytes of one object in a report
	maxReportYAML  = 768 << 10 // of all objects
	maxProblems    = 1000      // of a report
	maxTraced      = 500       // problems whose places are looked for
	masked         = "(masked)"
	maxEqualPolicy = 20 // of one policy about one object
)

// level is what becomes of what a policy finds here.
func (e environment) level(policy string) slipway.Level {
	return manifest.LevelOf(policy, e.gate(), e.Production)
}

func (e environment) gate() slipway.ManifestGate {
	if e.Manifests == nil {
		return slipway.ManifestGate{}
	}
	return *e.Manifests
}

// traced is what problems need to get their places.
type traced struct {
	env      environment
	chart    Chart
	render   Render
	problems []slipway.ManifestProblem
	fields   []Field // of each problem
}

// report records the objects, and what schema and policies find, with the places.
func (r *Runner) report(ctx context.Context, c Chart, render Render, e environment, out *findings) (slipway.ManifestReport, error) {
	report := slipway.ManifestReport{Environment: e.Environment, KubeVersion: e.api.version, Live: e.api.live, API: e.api.id}
	gate := e.gate()
	settings := manifest.Settings{Image: e.spec.Image, Registries: gate.Registries, PodSecurity: gate.PodSecurity}
	t := traced{env: e, chart: c, render: render}
	left := maxReportYAML
	for _, o := range e.objects {
		found := e.apiProblems(o, r.schemas)
		found = append(found, manifest.Check([]manifest.Object{{Fields: o.Fields, Hook: o.Hook, CRD: o.CRD, Generated: o.generated}}, settings)...)
		yaml := objectYAML(o.Object, found) // masks what is found, also what is too much to be told
		if left -= len(yaml); left < 0 {
			yaml = ""
		}
		report.Objects = append(report.Objects, slipway.ManifestObject{Name: manifest.Name(o.Fields), Template: path.Join(inTree(e.spec), o.Source), YAML: yaml})
		for _, p := range bounded(found) {
			if len(t.problems) < maxProblems {
				t.problems = append(t.problems, p)
				t.fields = append(t.fields, Field{Source: o.Source, Kind: text(o.Fields, "kind"), Name: nameOf(o.Object), Keys: manifest.Keys(o.Fields, p.Path)})
			}
		}
	}
	report.Problems = t.problems
	return report, r.place(ctx, t, out)
}

// bounded cuts what one policy says about one object.
func bounded(problems []slipway.ManifestProblem) []slipway.ManifestProblem {
	n := map[string]int{}
	return slices.DeleteFunc(problems, func(p slipway.ManifestProblem) bool {
		n[p.Policy]++
		return n[p.Policy] > maxEqualPolicy
	})
}

// place says where problems come from, when one of them counts. Only the end of ctx is an error.
func (r *Runner) place(ctx context.Context, t traced, out *findings) error {
	problems, fields := t.problems, t.fields
	for i, p := range problems {
		problems[i].Place = path.Join(inTree(t.env.spec), fields[i].Source) // the template, at least
		if p.Object == "" {
			problems[i].Object = fields[i].Source
		}
	}
	counts := slices.ContainsFunc(problems, func(p slipway.ManifestProblem) bool { return t.env.level(p.Policy) != slipway.LevelOff })
	if r.opts.Tracer == nil || !counts {
		return nil
	}
	if len(fields) > maxTraced {
		fields = fields[:maxTraced]
	}
	origins, err := r.opts.Tracer.Trace(ctx, t.chart, t.render, fields)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil { // the problems are known all the same
		out.add(Problem{Severity: Note, Message: fmt.Sprintf("the lines that problems come from are not known: %v", err)})
		return nil
	}
	for i, o := range origins {
		if o.Template.Line > 0 {
			problems[i].Place = placeText(t.env.spec, o.Template)
		}
		if o.Values.Line > 0 {
			problems[i].Values = placeText(t.env.spec, o.Values)
		}
	}
	return nil
}

// inTree is the chart folder as people know it; the standard chart is nowhere in the tree.
func inTree(spec *slipway.ChartSpec) string { return displayDir(spec.Source.Dir) }

func placeText(spec *slipway.ChartSpec, p Place) string {
	return path.Join(inTree(spec), p.File) + ":" + strconv.Itoa(p.Line)
}

// apiProblems is what the API of the environment says of an object, under the names of its policies.
func (e environment) apiProblems(o judgedObject, schemas Schemas) []slipway.ManifestProblem {
	apiVersion, kind := text(o.Fields, "apiVersion"), text(o.Fields, "kind")
	if apiVersion == "" || kind == "" {
		return nil // an error of its own
	}
	said := apiVersion + " " + kind
	add := func(policy, at, format string, args ...any) slipway.ManifestProblem {
		return slipway.ManifestProblem{Policy: policy, Object: manifest.Name(o.Fields), Path: at, Message: fmt.Sprintf(format, args...)}
	}
	life, known := schemas.Lifecycle(apiVersion, kind)
	at := ParseMinor(e.api.version)
	instead := "nothing is known that takes its place"
	if life.Replacement != "" {
		instead = "use " + life.Replacement
	}
	switch {
	case known && life.Removed.Reached(at) && (!e.api.live || o.verdict.Unserved || !o.verdict.Known):
		return []slipway.ManifestProblem{add(manifest.RemovedAPI, "apiVersion", "%s is no longer served since Kubernetes %s: %s", said, life.Removed, instead)}
	case known && life.Deprecated.Reached(at):
		gone := ""
		if life.Removed != (Minor{}) {
			gone = fmt.Sprintf(" and goes with %s", life.Removed)
		}
		deprecated := add(manifest.DeprecatedAPI, "apiVersion", "%s is deprecated since Kubernetes %s%s: %s", said, life.Deprecated, gone, instead)
		if o.verdict.Unserved && !e.api.live { // the target is older than the schema
			return []slipway.ManifestProblem{deprecated}
		}
		return append([]slipway.ManifestProblem{deprecated}, schemaProblems(o)...)
	case known && !e.api.live && life.Introduced != (Minor{}) && at != (Minor{}) && !life.Introduced.Reached(at):
		return []slipway.ManifestProblem{add(manifest.Schema, "apiVersion", "%s comes with Kubernetes %s, and this is %s", said, life.Introduced, e.api.version)}
	}
	return schemaProblems(o)
}

func schemaProblems(o judgedObject) []slipway.ManifestProblem {
	var out []slipway.ManifestProblem
	for _, p := range o.verdict.Problems {
		keys := manifest.Keys(o.Fields, p.Path)
		if len(keys) > 0 && manifest.NamesSecret(keys[len(keys)-1]) {
			p.Message, _, _ = strings.Cut(p.Message, ", is ") // what it is may be the secret
		}
		out = append(out, slipway.ManifestProblem{Policy: manifest.Schema, Object: manifest.Name(o.Fields), Path: manifest.Path(o.Fields, keys), Message: p.Message})
	}
	return out
}

// objectYAML is an object as text, without the values of Secrets and without what a policy took for a
// secret. It is empty when it is too large to be kept.
func objectYAML(o Object, problems []slipway.ManifestProblem) string {
	fields, _ := clone(o.Fields).(map[string]any)
	if text(fields, "kind") == "Secret" {
		hideSecret(fields)
	}
	for _, p := range problems {
		if p.Policy == manifest.PlainSecret {
			mask(fields, manifest.Keys(o.Fields, p.Path))
		}
	}
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(fields); err != nil || b.Len() > maxObjectYAML {
		return ""
	}
	return b.String()
}

// hideSecret masks all that may hold values, also under a misspelt key and in the wrong form.
func hideSecret(fields map[string]any) {
	for k, v := range fields {
		switch k {
		case "apiVersion", "kind", "type", "immutable":
			continue
		case "metadata":
			metadata, _ := v.(map[string]any)
			annotations, _ := metadata["annotations"].(map[string]any)
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
			continue
		}
		if entries, ok := v.(map[string]any); ok {
			for name := range entries {
				entries[name] = masked
			}
		} else if v != nil {
			fields[k] = masked
		}
	}
}

// clone copies maps and lists, and turns numbers into what the encoder writes as numbers.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

// mask replaces what stands at keys.
func mask(v any, keys []string) {
	for i, k := range keys {
		last := i == len(keys)-1
		switch n := v.(type) {
		case map[string]any:
			if last && n[k] != nil {
				n[k] = masked
			}
			v = n[k]
		case []any:
			j, err := strconv.Atoi(k)
			if err != nil || j < 0 || j >= len(n) {
				return
			}
			if last {
				n[j] = masked
			}
			v = n[j]
		default:
			return
		}
	}
}
