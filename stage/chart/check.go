package chart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// placeholderDigest stands for the digest that a deployment will have.
const placeholderDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// valuesFiles lists the files of a chart whose values are merged for an environment, later ones win
// (D17); the chart's values.yaml lies below them, slipway.ChartValues above. Those of extra are listed whether
// the chart has them or not: a missing one is an error to report.
func valuesFiles(c Chart, environment string, extra []string) []string {
	var out []string
	own := slipway.EnvironmentValues(environment)
	if c.Has(own) {
		out = append(out, own)
	}
	for _, name := range extra {
		if name != own {
			out = append(out, name)
		}
	}
	return out
}

// check lints and renders the chart for each environment, and judges what comes out.
func (r *Runner) check(ctx context.Context, spec *slipway.ChartSpec, c Chart, now time.Time, out *findings) error {
	planned := plannedRenders(spec)
	apis, err := r.apis(ctx, planned, now)
	if err != nil {
		return err
	}
	renders := make([]Render, len(planned))
	for i, p := range planned {
		renders[i] = Render{
			Release:     spec.Service,
			Namespace:   p.Namespace,
			ValuesFiles: valuesFiles(c, p.Environment, p.Values),
			Values:      slipway.ChartValues(spec.Image, spec.Version, placeholderDigest, "chart check"),
			KubeVersion: apis[i].version,
			APIVersions: apis[i].schema.APIVersions(),
		}
	}
	if out.add(missingValues(c, planned, renders)...); out.errors > 0 {
		return nil
	}
	rendered, err := r.helm.Check(ctx, c, renders)
	if err != nil {
		return err
	}
	shared := map[string]string{}
	for i, p := range planned {
		out.open(groupOf(p.Environment))
		objects := judged(rendered[i], apis[i].schema)
		api, err := r.newest(ctx, p, apis[i], objects, now)
		if err != nil {
			out.close()
			return err
		}
		if api.schema != apis[i].schema {
			objects = judged(rendered[i], api.schema)
		}
		e := environment{ChartRender: p, api: api, spec: spec, objects: objects}
		if e.api.note != "" {
			out.add(Problem{Severity: Note, Message: e.api.note})
		}
		out.add(rendered[i].Problems...)
		out.add(e.judge(rendered[i])...)
		out.add(e.fights(shared)...)
		if len(rendered[i].Unstable) > 0 {
			out.unstable = true
		}
		report, err := r.report(ctx, c, renders[i], e, out)
		if err != nil {
			out.close()
			return err
		}
		out.manifests(e, report)
		out.rendered(p, len(rendered[i].Objects))
		out.close()
	}
	return nil
}

// plannedRenders are those that a chart is checked with, one at the least.
func plannedRenders(spec *slipway.ChartSpec) []slipway.ChartRender {
	if len(spec.Renders) == 0 {
		return []slipway.ChartRender{{Namespace: "default"}}
	}
	return spec.Renders
}

// missingValues reports values files that an environment names and the chart does not have.
func missingValues(c Chart, planned []slipway.ChartRender, renders []Render) []Problem {
	var problems []Problem
	for i, r := range renders {
		for _, name := range r.ValuesFiles {
			if !c.Has(name) {
				problems = append(problems, Problem{Severity: Error, Message: fmt.Sprintf(
					"environment %s: values file %s is not in the chart folder", planned[i].Environment, name)})
			}
		}
	}
	return problems
}

func groupOf(environment string) string {
	if environment == "" {
		return "defaults"
	}
	return environment
}

// environment is what is judged at once: the objects of one render, and what they are held to.
type environment struct {
	slipway.ChartRender
	api     api
	spec    *slipway.ChartSpec
	objects []judgedObject
}

// judgedObject is an object with what the schema says of it.
type judgedObject struct {
	Object
	verdict   Verdict
	generated bool // its template renders differently each time
}

func judged(got Rendered, schema Schema) []judgedObject {
	own := definedKinds(got.Objects)
	out := make([]judgedObject, len(got.Objects))
	for i, o := range got.Objects {
		out[i] = judgedObject{o, schema.Check(o.Fields), slices.Contains(got.Unstable, o.Source)}
		if out[i].verdict.Unserved && own[groupOfAPI(o)+" "+text(o.Fields, "kind")] {
			out[i].verdict = Verdict{} // the chart brings the definition itself
		}
	}
	return out
}

// definedKinds are the kinds, with their groups, that the chart's own CRDs define.
func definedKinds(objects []Object) map[string]bool {
	out := map[string]bool{}
	for _, o := range objects {
		if text(o.Fields, "kind") == "CustomResourceDefinition" {
			out[text(o.Fields, "spec", "group")+" "+text(o.Fields, "spec", "names", "kind")] = true
		}
	}
	return out
}

func groupOfAPI(o Object) string {
	group, _, found := strings.Cut(text(o.Fields, "apiVersion"), "/")
	if !found {
		return ""
	}
	return group
}

// judge says what keeps objects from being deployed, or is remarkable about them, policies apart.
func (e environment) judge(got Rendered) []Problem {
	var problems []Problem
	seen := map[string]string{}
	var images []image
	for _, o := range e.objects {
		problems = append(problems, e.object(o)...)
		key := identity(o.Object, o.verdict, e.Namespace)
		if first, twice := seen[key]; twice && o.Hook == "" && key != "" {
			problems = append(problems, problem(Error, o.Object, "the same object stands in %s too: one would overwrite the other", first))
		} else if o.Hook == "" {
			seen[key] = o.Source
		}
		images = append(images, containers(o.Object)...)
	}
	if !hasErrors(got.Problems) {
		problems = append(problems, judgeImages(images, e.spec)...)
	}
	for _, t := range got.Unstable {
		problems = append(problems, Problem{Severity: Warning, File: t,
			Message: "renders differently each time (a random value, a new certificate or the date): an approval cannot bind to what it showed; give such values from outside"})
	}
	return problems
}

// object judges one object for itself.
func (e environment) object(o judgedObject) []Problem {
	var problems []Problem
	if text(o.Fields, "apiVersion") == "" || text(o.Fields, "kind") == "" {
		for _, p := range o.verdict.Problems {
			problems = append(problems, problem(Error, o.Object, "%s", p))
		}
		return problems
	}
	if !o.verdict.Known {
		where := "not part of Kubernetes " + e.api.version
		if e.api.live {
			where = "not part of the API of cluster " + e.Cluster
		}
		return append(problems, problem(Note, o.Object, "%s, not checked: the cluster must have its definition", where))
	}
	if nameOf(o.Object) == "" {
		problems = append(problems, problem(Error, o.Object, "metadata.name: required, but missing"))
	}
	namespace := text(o.Fields, "metadata", "namespace")
	switch {
	case o.CRD:
		problems = append(problems, problem(Note, o.Object, "from crds/: installed once, never upgraded or rolled back"))
	case !o.verdict.Namespaced && len(o.verdict.Problems) == 0:
		problems = append(problems, problem(Note, o.Object, "is not in a namespace: it is the cluster's, and shared by every environment there"))
	case namespace != "" && namespace != e.Namespace:
		problems = append(problems, problem(Error, o.Object, "is put into namespace %s: a release may only have objects in its environment's namespace %s; leave metadata.namespace out", namespace, e.Namespace))
	}
	return problems
}

// fights reports objects outside namespaces that two environments would both own (D19).
func (e environment) fights(shared map[string]string) []Problem {
	var problems []Problem
	for _, o := range e.objects {
		key := identity(o.Object, o.verdict, "")
		if !o.verdict.Known || o.verdict.Namespaced || o.CRD || key == "" {
			continue
		}
		key += "\x00" + e.Cluster
		if other, ok := shared[key]; ok && other != e.Environment && o.Hook == "" {
			problems = append(problems, problem(Error, o.Object, "is the same object in %s: on one cluster the two releases would fight over it; put .Release.Namespace into its name", other))
			continue
		}
		shared[key] = e.Environment
	}
	return problems
}

// identity tells objects apart as the API server does, without the version.
func identity(o Object, v Verdict, namespace string) string {
	if own := text(o.Fields, "metadata", "namespace"); own != "" {
		namespace = own
	}
	if v.Known && !v.Namespaced {
		namespace = ""
	}
	if nameOf(o) == "" {
		return ""
	}
	return strings.Join([]string{groupOfAPI(o), text(o.Fields, "kind"), namespace, nameOf(o)}, "\x00")
}

func nameOf(o Object) string {
	if n := text(o.Fields, "metadata", "name"); n != "" || o.Hook == "" {
		return n
	}
	return text(o.Fields, "metadata", "generateName") // hooks are created, not applied
}

func problem(s Severity, o Object, format string, args ...any) Problem {
	label := strings.TrimSpace(text(o.Fields, "kind") + " " + nameOf(o))
	return Problem{Severity: s, File: o.Source, Message: strings.TrimPrefix(label+": ", ": ") + fmt.Sprintf(format, args...)}
}

func hasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// text is the string at a path of keys, or "".
func text(v any, keys ...string) string {
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[k]
	}
	s, _ := v.(string)
	return s
}
