// Package starter holds what a new service begins as: for each language a program that answers, its
// test, a Dockerfile with the stage testrunner, and a chart. Nothing in it needs slipway.yaml.
//
// It makes files in memory. Where they go, and whether they may, is decided by its caller.
package starter

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/slipway-cd/slipway"
)

//go:embed all:templates
var templates embed.FS

// Options say what is made.
type Options struct {
	Name         string // of the service
	Language     string // one of Languages
	Environments []slipway.Environment
}

// File is one file of a new service.
type File struct {
	Path       string // slash-separated, relative to the service's folder
	Data       []byte
	Executable bool
}

// Languages lists what a service can be written in.
func Languages() []string { return []string{"go", "node", "python", "static"} }

// Files returns the files of a new service, sorted by path: equal options, equal files. A name or a
// language that does not do is an Invalid error.
func Files(o Options) ([]File, error) {
	if err := slipway.CheckName("service", o.Name); err != nil {
		return nil, err
	}
	if !slices.Contains(Languages(), o.Language) {
		return nil, slipway.Errorf(slipway.Invalid, "language %q: there is a template for %s", o.Language, strings.Join(Languages(), ", "))
	}
	var files []File
	for _, part := range []struct{ from, to string }{{o.Language, "."}, {"chart", "chart"}, {"common", "."}} {
		made, err := fill(path.Join("templates", part.from), part.to, o)
		if err != nil {
			return nil, err
		}
		files = append(files, made...)
	}
	for _, e := range o.Environments {
		files = append(files, File{Path: "chart/values-" + e.Name + ".yaml", Data: values(e)})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// fill fills in the templates below a folder. Their names end with .tmpl, so that neither Go nor
// anything else takes them for what they become.
func fill(from, to string, o Options) ([]File, error) {
	var files []File
	err := fs.WalkDir(templates, from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := templates.ReadFile(name)
		if err != nil {
			return err
		}
		t, err := template.New(name).Delims("[[", "]]").Option("missingkey=error").Parse(string(text))
		if err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, o); err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		rel := strings.TrimSuffix(strings.TrimPrefix(name, from+"/"), ".tmpl")
		files = append(files, File{Path: path.Join(to, rel), Data: out.Bytes(), Executable: strings.HasPrefix(out.String(), "#!")})
		return nil
	})
	return files, err
}

// values is the values file of an environment.
func values(e slipway.Environment) []byte {
	replicas, why := 1, ""
	if e.Production {
		replicas, why = 2, " # one can be replaced while the other answers"
	}
	return fmt.Appendf(nil, "# What differs in %s from values.yaml.\nreplicas: %d%s\nconfig:\n  GREETING: hello from %s\n", e.Name, replicas, why, e.Name)
}
