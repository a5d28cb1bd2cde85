package helmchart

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	helm "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"

	"github.com/slipway-cd/slipway/stage/chart"
)

// otherTime is how much later the second render believes to be: another minute, hour, day, month
// and year.
const otherTime = 400*24*time.Hour + 61*time.Minute + time.Second

// renderTwice renders a chart, and once more at another time to find what differs (D11). The second
// result says whether all templates could be rendered, whatever came out.
func renderTwice(ctx context.Context, c chart.Chart, r chart.Render, now time.Time) (chart.Rendered, bool) {
	files, problems := renderFiles(ctx, c, r, now)
	out := chart.Rendered{Problems: problems}
	if failed(problems) {
		return out, false
	}
	again, _ := renderFiles(ctx, c, r, now.Add(otherTime))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name] != again[name] {
			out.Unstable = append(out.Unstable, inChart(c.Name, name))
		}
	}
	objects, problems := objects(c, files)
	out.Objects = objects
	out.Problems = append(out.Problems, problems...)
	return out, true
}

// maxFaults bounds how many broken templates are looked for.
const maxFaults = 20

// renderFiles runs the template engine. It stops at the first error, so the broken template is taken
// out and the others are tried again: all of them are reported.
func renderFiles(ctx context.Context, c chart.Chart, r chart.Render, now time.Time) (map[string]string, []chart.Problem) {
	loaded, err := load(c)
	if err != nil {
		return nil, []chart.Problem{loadProblem(err.Error())}
	}
	top, problems := prepare(loaded, c, r)
	if failed(problems) {
		return nil, problems
	}
	eng := engine.Engine{CustomTemplateFuncs: funcs(now)}
	var files map[string]string
	for range maxFaults {
		files, err = eng.RenderWithContext(ctx, loaded, top)
		if err == nil {
			break
		}
		problems = append(problems, templateProblem(c, err.Error()))
		if ctx.Err() != nil || !dropTemplate(loaded, err.Error()) {
			break
		}
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return path.Base(name) == "NOTES.txt" })
	slices.SortStableFunc(problems, func(a, b chart.Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return files, problems
}

// dropTemplate removes the template that an error of the engine names first, unless others may need
// it.
func dropTemplate(c *helm.Chart, text string) bool {
	place := placeExpr.FindStringSubmatch(text)
	if place == nil || strings.HasPrefix(path.Base(place[1]), "_") {
		return false
	}
	for _, sub := range append([]*helm.Chart{c}, descendants(c)...) {
		before := len(sub.Templates)
		sub.Templates = slices.DeleteFunc(sub.Templates, func(f *common.File) bool {
			return path.Join(sub.ChartFullPath(), f.Name) == place[1]
		})
		if len(sub.Templates) < before {
			return true
		}
	}
	return false
}

func descendants(c *helm.Chart) []*helm.Chart {
	var out []*helm.Chart
	for _, d := range c.Dependencies() {
		out = append(append(out, d), descendants(d)...)
	}
	return out
}

// prepare makes what templates see. It changes the chart: dependencies that are switched off go.
func prepare(loaded *helm.Chart, c chart.Chart, r chart.Render) (common.Values, []chart.Problem) {
	vals, problems := values(c, r)
	if failed(problems) {
		return nil, problems
	}
	caps := common.DefaultCapabilities.Copy()
	if r.KubeVersion != "" {
		v, err := common.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return nil, []chart.Problem{failure("", 0, fmt.Sprintf("Kubernetes version %q: %v", r.KubeVersion, err))}
		}
		caps.KubeVersion = *v
	}
	if len(r.APIVersions) > 0 {
		caps.APIVersions = r.APIVersions
	}
	if want := loaded.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, caps.KubeVersion.String()) {
		problems = append(problems, failure("Chart.yaml", 0, fmt.Sprintf("kubeVersion %q does not allow Kubernetes %s", want, caps.KubeVersion.Version)))
	}
	if err := chartutil.ProcessDependencies(loaded, vals); err != nil {
		return nil, append(problems, failure("Chart.yaml", 0, oneLine(err.Error())))
	}
	release := common.ReleaseOptions{Name: r.Release, Namespace: r.Namespace, Revision: r.Upgraded + 1, IsInstall: r.Upgraded == 0, IsUpgrade: r.Upgraded > 0}
	top, err := util.ToRenderValuesWithSchemaValidation(loaded, vals, release, caps, true)
	if err != nil {
		return nil, append(problems, failure("values.yaml", 0, oneLine(err.Error())))
	}
	switch all := top["Values"].(type) {
	case common.Values:
		problems = append(problems, checkValues(loaded, all)...)
	case map[string]any:
		problems = append(problems, checkValues(loaded, all)...)
	}
	return top, problems
}

// funcs are the template functions of every render, with the time that now tells.
func funcs(now time.Time) template.FuncMap {
	f := chart.Funcs()
	f["now"] = func() time.Time { return now }
	return f
}
