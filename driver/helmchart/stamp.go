package helmchart

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	yamlv3 "go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	helm "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway/stage/chart"
)

var nameExpr = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

// Stamp implements chart.Helm.
func (h *Helm) Stamp(c chart.Chart, version string, annotations map[string]string) (chart.Chart, []chart.Problem, error) {
	at := slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == "Chart.yaml" })
	if at < 0 {
		return c, []chart.Problem{failure("Chart.yaml", 0, "missing")}, nil
	}
	data := c.Files[at].Data
	md, problems := metadata(data)
	if md == nil {
		return c, problems, nil
	}
	md.Version, md.AppVersion = version, version
	if len(annotations) > 0 {
		if md.Annotations == nil {
			md.Annotations = map[string]string{}
		}
		maps.Copy(md.Annotations, annotations)
	}
	out, err := yaml.Marshal(md)
	if err != nil {
		return c, nil, fmt.Errorf("write Chart.yaml: %w", err)
	}
	stamped := chart.Chart{Name: md.Name, Files: slices.Clone(c.Files)}
	stamped.Files[at].Data = out
	if failed(problems) {
		return stamped, problems, nil
	}
	loaded, err := load(stamped)
	if err != nil {
		return stamped, append(problems, loadProblem(err.Error())), nil
	}
	return stamped, append(problems, missing(loaded, data)...), nil
}

// metadata reads a Chart.yaml and says what is wrong with it; nil when it cannot be read at all.
func metadata(data []byte) (*helm.Metadata, []chart.Problem) {
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(data, &doc); err != nil {
		return nil, []chart.Problem{yamlProblem("Chart.yaml", err.Error())}
	}
	md := new(helm.Metadata)
	if err := yaml.Unmarshal(data, md); err != nil {
		return nil, []chart.Problem{yamlProblem("Chart.yaml", err.Error())}
	}
	var problems []chart.Problem
	if err := yaml.UnmarshalStrict(data, new(helm.Metadata)); err != nil {
		problems = append(problems, warning("Chart.yaml", oneLine(err.Error())))
	}
	name, line := scalar(doc, "name")
	switch {
	case name == "":
		problems = append(problems, failure("Chart.yaml", line, "name is missing"))
	case !nameExpr.MatchString(name):
		problems = append(problems, failure("Chart.yaml", line, fmt.Sprintf("name %q: only letters, digits, dashes, dots and underscores, at most 100, beginning with a letter or digit", name)))
	}
	version, line := scalar(doc, "version")
	if version == "" {
		problems = append(problems, failure("Chart.yaml", line, "version is missing: write MAJOR.MINOR.PATCH, such as 0.1.0 (packages get the version of the release)"))
	} else if _, err := semver.StrictNewVersion(version); err != nil {
		problems = append(problems, failure("Chart.yaml", line, fmt.Sprintf("version %q is not SemVer: write MAJOR.MINOR.PATCH without a leading v, such as 0.1.0 (packages get the version of the release)", version)))
	}
	if md.Type == "library" {
		_, line := scalar(doc, "type")
		problems = append(problems, failure("Chart.yaml", line, "a library chart cannot be deployed: make it a dependency of an application chart"))
	}
	return md, problems
}

// scalar finds a top-level value and its line.
func scalar(doc yamlv3.Node, key string) (string, int) {
	if len(doc.Content) == 0 || doc.Content[0].Kind != yamlv3.MappingNode {
		return "", 0
	}
	m := doc.Content[0].Content
	for i := 0; i+1 < len(m); i += 2 {
		if m[i].Value == key {
			return m[i+1].Value, m[i].Line
		}
	}
	return "", 0
}

// missing reports declared dependencies that are not in charts/, with the line of their declaration.
func missing(c *helm.Chart, chartYAML []byte) []chart.Problem {
	have := map[string]bool{}
	for _, d := range c.Dependencies() {
		have[d.Name()] = true
	}
	lines := strings.Split(string(chartYAML), "\n")
	var problems []chart.Problem
	for _, d := range c.Metadata.Dependencies {
		if have[d.Name] {
			continue
		}
		named := regexp.MustCompile(`\bname:\s*["']?` + regexp.QuoteMeta(d.Name) + `["']?\s*$`)
		line := slices.IndexFunc(lines, named.MatchString) + 1
		problems = append(problems, failure("Chart.yaml", line, fmt.Sprintf("dependency %s %s is not in charts/: run helm dependency build and commit what it puts there", d.Name, d.Version)))
	}
	return problems
}

// load makes a chart of the SDK out of files. Rendering changes it, so each use needs its own.
func load(c chart.Chart) (*helm.Chart, error) {
	files := make([]*archive.BufferedFile, 0, len(c.Files))
	for _, f := range c.Files {
		files = append(files, &archive.BufferedFile{Name: f.Path, Data: f.Data})
	}
	return loader.LoadFiles(files)
}

var loadFileExpr = regexp.MustCompile(`cannot load (\S+): `)

func loadProblem(text string) chart.Problem {
	if m := loadFileExpr.FindStringSubmatchIndex(text); m != nil {
		return yamlProblem(text[m[2]:m[3]], text[m[1]:])
	}
	return failure("", 0, oneLine(text))
}

func failed(problems []chart.Problem) bool {
	return slices.ContainsFunc(problems, func(p chart.Problem) bool { return p.Severity == chart.Error })
}
