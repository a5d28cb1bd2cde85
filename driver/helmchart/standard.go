package helmchart

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway/stage/chart"
)

//go:embed all:standard
var standard embed.FS

// Standard implements chart.Helm. The chart runs one Deployment as a numeric non-root user on a
// read-only file system, and what else its values.yaml describes.
func (h *Helm) Standard(service string, port int) (chart.Chart, error) {
	if port < 0 || port > 65535 {
		return chart.Chart{}, fmt.Errorf("port %d of %s is not a port", port, service)
	}
	c := chart.Chart{Name: service}
	err := fs.WalkDir(standard, "standard", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := standard.ReadFile(name)
		if err != nil {
			return err
		}
		file := chart.File{Path: strings.TrimPrefix(name, "standard/"), Data: data}
		switch file.Path {
		case "Chart.yaml":
			file.Data = []byte(strings.Replace(string(data), "name: service\n", "name: "+service+"\n", 1))
		case "values.yaml":
			file.Data = []byte(strings.Replace(string(data), "  port: 0 ", fmt.Sprintf("  port: %d ", port), 1))
		}
		c.Files = append(c.Files, file)
		return nil
	})
	if err != nil {
		return chart.Chart{}, fmt.Errorf("read the standard chart: %w", err)
	}
	slices.SortFunc(c.Files, func(a, b chart.File) int { return strings.Compare(a.Path, b.Path) })
	return c, nil
}
