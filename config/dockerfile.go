package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/slipway-cd/slipway"
)

// Dockerfile is what Slipway reads from one: no more than its stages, ports and user.
type Dockerfile struct {
	Stages []DockerfileStage
	// Sources is what it takes from its build context, in the order of the file: of COPY, ADD and
	// RUN --mount=type=bind.
	Sources []DockerfileSource
	// Args are the defaults of its ARGs.
	Args map[string]string
	// Env are the names that its ENVs set. Below such a line it is that value which counts, not an ARG's.
	Env map[string]bool
	// Images are the images that it names: of FROM, COPY --from and --mount from=. Variables in them are
	// as they are written.
	Images []string
	// Fetches: it adds what it fetches from a URL or a git repository.
	Fetches bool
}

// DockerfileSource is one source of a COPY, an ADD or a mount, as it is written.
type DockerfileSource struct {
	Text string
	Line int
}

// DockerfileStage is one FROM and what follows it.
type DockerfileStage struct {
	Name  string // lower case; empty when it has none
	Base  string // image, or name of an earlier stage
	Line  int
	Ports []int // TCP ports that it exposes by number, each once

	env map[string]string // of its ENVs so far, and of the stage that it is built on
}

// ParseDockerfile reads a Dockerfile. A Dockerfile that does not parse is a Problem with its line.
func ParseDockerfile(name string, data []byte) (Dockerfile, Problems) {
	fault := func(line int, err error) (Dockerfile, Problems) {
		return Dockerfile{}, Problems{{File: name, Line: line, Message: "does not parse: " + inShort(err), Hint: "see what docker build says of it"}}
	}
	result, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		var at *parser.LocationError
		if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
			return fault(at.Locations[0][0].Start.Line, err)
		}
		return fault(0, err)
	}
	var d Dockerfile
	seen := names{stages: map[string]bool{}, images: map[string]bool{}}
	for _, n := range result.AST.Children {
		instruction, err := instructions.ParseInstruction(n)
		if err != nil {
			return fault(n.StartLine, err)
		}
		d.sources(instruction, n.StartLine, seen)
		if s, ok := instruction.(*instructions.Stage); ok {
			seen.stages[strings.ToLower(s.Name)] = true
			stage := DockerfileStage{Name: strings.ToLower(s.Name), Base: s.BaseName, Line: n.StartLine}
			for _, base := range d.Stages {
				if base.Name != "" && strings.EqualFold(base.Name, s.BaseName) {
					stage.env = maps.Clone(base.env)
				}
			}
			d.Stages = append(d.Stages, stage)
			continue
		}
		if _, arg := instruction.(*instructions.ArgCommand); len(d.Stages) == 0 && !arg {
			return fault(n.StartLine, errors.New(strings.ToUpper(n.Value)+" before the first FROM"))
		}
		if len(d.Stages) > 0 {
			d.Stages[len(d.Stages)-1].take(instruction)
		}
	}
	if len(d.Stages) == 0 {
		return fault(0, errors.New("it has no FROM"))
	}
	return d, nil
}

func (s *DockerfileStage) take(instruction any) {
	switch c := instruction.(type) {
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			if s.env == nil {
				s.env = map[string]string{}
			}
			s.env[kv.Key] = strings.Trim(kv.Value, `"'`)
		}
	case *instructions.ExposeCommand:
		for _, p := range c.Ports {
			p = variable.ReplaceAllStringFunc(p, func(v string) string {
				return cmp.Or(s.env[strings.Trim(v, "${}")], v)
			})
			number, protocol, _ := strings.Cut(p, "/")
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > 65535 || (protocol != "" && !strings.EqualFold(protocol, "tcp")) {
				continue // an argument, a range or another protocol: not the one port to tell
			}
			s.expose(n)
		}
	}
}

func (s *DockerfileStage) expose(port int) {
	for _, known := range s.Ports {
		if known == port {
			return
		}
	}
	s.Ports = append(s.Ports, port)
}

// sources notes what an instruction takes from the build context, and which images it names.
func (d *Dockerfile) sources(instruction any, line int, seen names) {
	switch c := instruction.(type) {
	case *instructions.Stage:
		d.image(c.BaseName, seen)
	case *instructions.CopyCommand:
		if c.From != "" {
			d.image(c.From, seen)
			return
		}
		for _, p := range c.SourcePaths {
			d.Sources = append(d.Sources, DockerfileSource{p, line})
		}
	case *instructions.ArgCommand:
		d.args(c)
	case *instructions.EnvCommand:
		if d.Env == nil {
			d.Env = map[string]bool{}
		}
		for _, kv := range c.Env {
			d.Env[kv.Key] = true
		}
	case *instructions.OnbuildCommand: // a later stage may be built on this one
		if then, err := parser.Parse(strings.NewReader(c.Expression)); err == nil && len(then.AST.Children) == 1 {
			if instruction, err := instructions.ParseInstruction(then.AST.Children[0]); err == nil {
				d.sources(instruction, line, seen)
			}
		}
	case *instructions.AddCommand:
		for _, p := range c.SourcePaths {
			if remote(p) {
				d.Fetches = true
				continue
			}
			d.Sources = append(d.Sources, DockerfileSource{p, line})
		}
	case *instructions.RunCommand:
		asWritten := func(word string) (string, error) { return word, nil }
		if c.Expand(asWritten) != nil {
			return // a mount that the build will not take either
		}
		for _, m := range instructions.GetMounts(c) {
			switch {
			case m.From != "":
				d.image(m.From, seen)
			case m.Type == instructions.MountTypeBind:
				d.Sources = append(d.Sources, DockerfileSource{m.Source, line})
			}
		}
	}
}

// names are those that a Dockerfile has used so far.
type names struct{ stages, images map[string]bool }

// image notes an image, unless it is an earlier stage.
func (d *Dockerfile) image(name string, seen names) {
	number, err := strconv.Atoi(name)
	stage := seen.stages[strings.ToLower(name)] || (err == nil && number >= 0 && number < len(d.Stages))
	if name == "" || stage || strings.EqualFold(name, "scratch") || seen.images[name] {
		return
	}
	seen.images[name] = true
	d.Images = append(d.Images, name)
}

// remote reports whether ADD fetches a source rather than to take it from the context.
func remote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git@")
}

// args notes defaults; of two for one name, none is sure.
func (d *Dockerfile) args(c *instructions.ArgCommand) {
	if d.Args == nil {
		d.Args = map[string]string{}
	}
	for _, a := range c.Args {
		if a.Value == nil {
			continue
		}
		if before, twice := d.Args[a.Key]; twice && before != *a.Value {
			d.Args[a.Key] = "$"
			continue
		}
		d.Args[a.Key] = *a.Value
	}
}

// expand puts the values of ARGs in the place of $NAME and ${NAME}; what is not known stays as it is.
func (d Dockerfile) expand(text string, args map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		name := strings.Trim(v, "${}")
		if value, ok := args[name]; ok {
			return value
		}
		if value, ok := d.Args[name]; ok && !strings.Contains(value, "$") {
			return value
		}
		return v
	})
}

var variable = regexp.MustCompile(`\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})`)

// Path is what a source names with these values of ARGs, relative to the build context, from which no ..
// leads out; "." is all of it. It may have wildcards. Where it has a variable of which nothing is known, it
// is the folder before that, and not sure.
func (d Dockerfile) Path(s DockerfileSource, args map[string]string) (p string, sure bool) {
	text := variable.ReplaceAllStringFunc(s.Text, func(v string) string {
		if d.Env[strings.Trim(v, "${}")] {
			return v
		}
		return d.expand(v, args)
	})
	i := strings.IndexByte(text, '$')
	if i >= 0 {
		text = text[:strings.LastIndexByte(text[:i], '/')+1]
	}
	return path.Join(".", path.Clean("/" + text)[1:]), i < 0
}

// Stage returns the stage of that name (or number, from 0), whatever its case; the last one for "".
func (d Dockerfile) Stage(name string) (DockerfileStage, bool) {
	if name == "" && len(d.Stages) > 0 {
		return d.Stages[len(d.Stages)-1], true
	}
	for _, s := range d.Stages {
		if s.Name != "" && s.Name == strings.ToLower(name) {
			return s, true
		}
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(d.Stages) {
		return d.Stages[i], true
	}
	return DockerfileStage{}, false
}

// Port is the single TCP port that a stage and the stages it is built on expose; 0 when there is
// none, or more than one.
func (d Dockerfile) Port(target string) int {
	var all DockerfileStage
	for _, s := range d.lineage(target) {
		for _, p := range s.Ports {
			all.expose(p)
		}
	}
	if len(all.Ports) != 1 {
		return 0
	}
	return all.Ports[0]
}

// lineage is a stage and the earlier stages it is built on, nearest first.
func (d Dockerfile) lineage(target string) []DockerfileStage {
	var out []DockerfileStage
	s, ok := d.Stage(target)
	for ok {
		out = append(out, s)
		base := s
		ok = false
		for _, earlier := range d.Stages {
			if earlier.Line >= base.Line {
				break
			}
			if earlier.Name != "" && strings.EqualFold(earlier.Name, base.Base) {
				s, ok = earlier, true
			}
		}
	}
	return out
}

func (d Dockerfile) names() []string {
	var out []string
	for _, s := range d.Stages {
		if s.Name != "" {
			out = append(out, s.Name)
		}
	}
	return out
}

func inShort(err error) string {
	msg := slipway.FirstLine(err.Error())
	if len(msg) > 300 {
		msg = fmt.Sprintf("%.300s...", msg)
	}
	return msg
}
