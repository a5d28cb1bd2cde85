package chart

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Helm is what the stage needs of the tool that knows charts. Faults of the chart come back as
// problems, an error is trouble of the surroundings. It is safe for concurrent use.
type Helm interface {
	// Load reads a chart folder into memory, without what its .helmignore leaves out but always
	// with the files named in keep where they exist. Links that leave the folder, irregular files
	// and charts beyond the bounds are problems. The folder is never written to.
	Load(ctx context.Context, dir string, keep []string) (Chart, []Problem, error)
	// Standard is the chart of services that have none. Port 0 means that the service listens to
	// nothing.
	Standard(service string, port int) (Chart, error)
	// Stamp returns the chart with that version and appVersion, and with annotations added to its
	// Chart.yaml. It reports a Chart.yaml that is wrong and dependencies that are missing.
	Stamp(c Chart, version string, annotations map[string]string) (Chart, []Problem, error)
	// Check lints and renders the chart once for each of the renders, in their order, without a
	// cluster: lookup finds nothing.
	Check(ctx context.Context, c Chart, renders []Render) ([]Rendered, error)
	// Package is the chart as a .tgz: the same bytes for the same chart and time, on every machine.
	Package(c Chart, created time.Time) ([]byte, error)
}

// Tracer finds where rendered fields come from. It is safe for concurrent use.
type Tracer interface {
	// Trace says of fields of the objects that a render makes which lines of the chart gave them, in the
	// order of the fields. What is not certain is left out.
	Trace(ctx context.Context, c Chart, r Render, fields []Field) ([]Origin, error)
}

// Field is a field of a rendered object. It need not be there: then it is asked where it would be.
type Field struct {
	Source string   `json:"source"` // template of the object
	Kind   string   `json:"kind"`
	Name   string   `json:"name"` // metadata.name, or generateName
	Keys   []string `json:"keys"` // of maps, and indexes of lists
}

// Origin is where a field comes from; each of the two places may be unknown, with Line 0.
type Origin struct {
	Template Place `json:"template,omitzero"`
	Values   Place `json:"values,omitzero"`
}

// Place is a line of a file of the chart.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// Chart is a chart in memory. Files are sorted by path; paths are slash-separated and relative to the
// chart folder.
type Chart struct {
	Name  string `json:"name"`
	Files []File `json:"files"`
}

// File is one file of a chart.
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// Has reports whether the chart has a file of that path.
func (c Chart) Has(path string) bool {
	for _, f := range c.Files {
		if f.Path == path {
			return true
		}
	}
	return false
}

// Render is one way to render a chart.
type Render struct {
	Release     string         `json:"release"`
	Namespace   string         `json:"namespace"`
	ValuesFiles []string       `json:"valuesFiles"` // of the chart; later ones win
	Values      map[string]any `json:"values"`      // win over the files
	KubeVersion string         `json:"kubeVersion"`
	APIVersions []string       `json:"apiVersions"`
	// Upgraded is the revision that an upgrade replaces; 0: the release is installed.
	Upgraded int `json:"upgraded,omitempty"`
}

// Rendered is what came of a render.
type Rendered struct {
	Objects  []Object  `json:"objects"` // in the order in which Helm installs them, hooks last
	Problems []Problem `json:"problems"`
	// Unstable names the templates that render differently at another time, or each time.
	Unstable []string `json:"unstable"`
}

// Object is a rendered Kubernetes object.
type Object struct {
	Source string         `json:"source"`         // template, relative to the chart folder
	Hook   string         `json:"hook,omitempty"` // events of a hook: pre-install,test
	CRD    bool           `json:"crd,omitempty"`  // from the chart's crds folder
	Fields map[string]any `json:"fields"`         // as decoded from JSON, numbers as json.Number
}

// Severity says what a problem means.
type Severity string

const (
	Error   Severity = "error"   // the chart cannot be deployed like this
	Warning Severity = "warning" // it can, and will surprise
	Note    Severity = "note"    // worth knowing
)

// Problem is something about a chart, with its place.
type Problem struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"` // relative to the chart folder
	Line     int      `json:"line,omitempty"` // 0: unknown
	Message  string   `json:"message"`
}

// Text is the problem on one line; files are shown under dir.
func (p Problem) Text(dir string) string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(strings.TrimPrefix(dir+"/", "./"))
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}
