package helmchart

import (
	"path/filepath"
	"regexp"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint/rules"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"

	"github.com/slipway-cd/slipway/stage/chart"
)

// lintChart runs Helm's linter with the values of a render. Templates are linted only when they have
// rendered: the linter runs them without bounds. Values against values.schema.json are left to the
// renderer, which does not fetch what the schema refers to.
func lintChart(req request, r chart.Render, templates bool) []chart.Problem {
	l := &support.Linter{ChartDir: req.Dir}
	rules.Chartfile(l)
	rules.Dependencies(l)
	rules.Crds(l)
	vals, _ := values(req.Chart, r)
	rules.ValuesWithOverrides(l, vals, true)
	if templates {
		opts := []rules.TemplateLinterOption{rules.TemplateLinterSkipSchemaValidation(true)}
		if v, err := common.ParseKubeVersion(r.KubeVersion); err == nil {
			opts = append(opts, rules.TemplateLinterKubeVersion(v))
		}
		rules.Templates(l, r.Namespace, vals, opts...)
	}
	var out []chart.Problem
	for _, m := range l.Messages {
		if p, ok := lintProblem(req, m); ok && !deprecatedExpr.MatchString(p.Message) {
			out = append(out, p)
		}
	}
	return out
}

// deprecatedExpr is what the linter says of old APIs, by API versions of its own: a policy says it of those
// of the environment.
var deprecatedExpr = regexp.MustCompile(`^(\S+) (\S+) is deprecated`)

func lintProblem(req request, m support.Message) (chart.Problem, bool) {
	text := strings.ReplaceAll(m.Err.Error(), req.Dir+string(filepath.Separator), "")
	file := strings.Trim(strings.TrimPrefix(m.Path, req.Dir), "/")
	switch {
	case text == "icon is recommended", // for public catalogues
		strings.HasPrefix(file, "templates/") && strings.HasPrefix(text, "unable to parse YAML"),      // the renderer shows the line
		strings.HasPrefix(text, `object name does not conform to Kubernetes naming requirements: ""`): // Lists; objects are checked later
		return chart.Problem{}, false
	}
	p := failure(file, 0, oneLine(text))
	if file == "templates" || file == "" {
		if placed := templateProblem(req.Chart, text); placed.File != "" {
			p = placed
		}
	} else if m := lineExpr.FindStringSubmatch(text); m != nil {
		p = yamlProblem(file, text)
	}
	switch m.Severity {
	case support.ErrorSev:
	case support.WarningSev:
		p.Severity = chart.Warning
	default:
		p.Severity = chart.Note
	}
	return p, true
}
