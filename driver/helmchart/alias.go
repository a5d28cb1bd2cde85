package helmchart

import (
	"path"
	"slices"
	"strings"

	helm "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway/stage/chart"
)

// inFolder is the file of the chart's folder that the engine's path of a template stands for: a dependency with an alias
// is called by it there, and its folder is not.
func inFolder(c chart.Chart, file string) string {
	dir, parts := "", strings.Split(inChart(c.Name, file), "/")
	for len(parts) > 2 && parts[0] == "charts" {
		name := parts[1]
		for _, d := range declared(c, dir) {
			if d.Alias == name {
				name = d.Name
			}
		}
		dir, parts = path.Join(dir, "charts", name), parts[2:]
	}
	return path.Join(dir, path.Join(parts...))
}

// calledBy are the names under which a chart sees the values of the dependency in a folder of charts/: its aliases, or its own.
func calledBy(c chart.Chart, folder string) (names []string) {
	name := folder
	if md := about(c, path.Join("charts", folder)); md != nil && md.Name != "" {
		name = md.Name
	}
	plain := true
	for _, d := range declared(c, "") {
		if d.Name != name {
			continue
		}
		if plain = d.Alias == ""; !plain && !slices.Contains(names, d.Alias) {
			names = append(names, d.Alias)
		}
	}
	if plain {
		names = append(names, name)
	}
	return names
}

// declared are the dependencies that the chart in a folder names.
func declared(c chart.Chart, dir string) []*helm.Dependency {
	if md := about(c, dir); md != nil {
		return slices.DeleteFunc(md.Dependencies, func(d *helm.Dependency) bool { return d == nil })
	}
	return nil
}

func about(c chart.Chart, dir string) *helm.Metadata {
	name := path.Join(dir, "Chart.yaml")
	i := slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == name })
	if i < 0 {
		return nil
	}
	md := new(helm.Metadata)
	if err := yaml.Unmarshal(c.Files[i].Data, md); err != nil {
		return nil
	}
	return md
}
