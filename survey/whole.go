package survey

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// build is what a service's Dockerfile does with its build context.
type build struct {
	context string
	steps   []config.DockerfileStep
	parsed  config.Dockerfile
	args    map[string]string
	target  string
	whole   int         // line that copies the whole context, 0 when none does
	roots   []string    // folders of stages that it is copied to
	holds   map[int]int // stages that have it -> line
}

// buildOf reads a service's Dockerfile; a Dockerfile that does not parse does nothing.
func (t *tree) buildOf(svc *Service, known slipway.Service) build {
	context, _ := known.BuildContext()
	file := path.Join(svc.Dir, svc.dockerfile)
	text := []byte(t.read(file))
	parsed, problems := config.ParseDockerfile(file, text)
	b := build{context: context, parsed: parsed, args: platformArgs(known.Args), target: known.Target, holds: map[int]int{}}
	if len(problems) > 0 {
		return b
	}
	b.steps = config.Steps(text)
	for _, step := range b.steps {
		if step.From != "" || !slices.ContainsFunc(step.Sources, b.isAll) {
			continue
		}
		b.roots, b.holds[step.Stage] = append(b.roots, step.Dest), step.Line
		if b.whole == 0 {
			b.whole = step.Line
		}
	}
	for i, stage := range parsed.Stages {
		if at := b.stage(stage.Base, i); at >= 0 && b.holds[i] == 0 && b.holds[at] > 0 {
			b.holds[i] = b.holds[at]
		}
	}
	return b
}

// isAll reports whether a source is the whole build context.
func (b build) isAll(source string) bool {
	p, sure := b.expand(source)
	return sure && p == "."
}

func (b build) expand(text string) (p string, sure bool) {
	return b.parsed.Path(config.DockerfileSource{Text: text}, b.args)
}

// stage is the number of a stage before another one, by its name or number; -1 when there is none.
func (b build) stage(name string, before int) int {
	if n, err := strconv.Atoi(name); err == nil && n < before {
		return n
	}
	return slices.IndexFunc(b.parsed.Stages[:before], func(s config.DockerfileStage) bool { return s.Name != "" && strings.EqualFold(s.Name, name) })
}

// inside is where of the build context a folder of a stage is that the whole of it is copied to; "." for others.
func (b build) inside(dir string) string {
	for _, root := range b.roots {
		if under(dir, root) || root == "/" {
			return path.Join(".", strings.TrimPrefix(dir, root))
		}
	}
	return "."
}

// uses finds what a build that copies its whole context takes of it besides the Go packages that it compiles: the paths
// that it copies on, and why there may be more; "" when there is not.
func (t *tree) uses(b build) (paths []string, doubt string) {
	last := len(b.parsed.Stages) - 1
	for i, s := range b.parsed.Stages {
		if target, ok := b.parsed.Stage(b.target); ok && target.Line == s.Line {
			last = i
		}
	}
	if b.holds[last] > 0 {
		return nil, "the image holds all of it"
	}
	for _, root := range b.roots {
		if strings.Contains(root, "$") {
			return nil, "where to, an argument says"
		}
	}
	for _, step := range b.steps {
		if why := notOnlyGo(step); why != "" {
			return nil, fmt.Sprintf("line %d %s", step.Line, why)
		}
		if step.From == "" || b.stage(step.From, len(b.parsed.Stages)) < 0 {
			continue
		}
		for _, source := range step.Sources {
			more, why := t.copiedOn(b, source)
			if why != "" {
				return nil, fmt.Sprintf("line %d %s", step.Line, why)
			}
			paths = append(paths, more...)
		}
	}
	return paths, ""
}

// copiedOn is what of the build context a stage takes from another one that has the whole of it.
func (t *tree) copiedOn(b build, source string) (paths []string, doubt string) {
	if strings.ContainsAny(source, "$*?[") {
		return nil, "copies " + source + " of it"
	}
	p := path.Clean("/" + source)
	for _, root := range b.roots {
		switch {
		case under(root, p) || p == "/":
			return nil, "copies all of it on"
		case under(p, root) || root == "/":
			if at := path.Join(b.context, strings.TrimPrefix(p, root)); t.holds(at) {
				paths = append(paths, at)
			}
		}
	}
	return paths, ""
}

// harmless are commands that read nothing of what is copied, or only what go says of it.
func harmless(command string) bool {
	return slices.Contains([]string{"", "set", "apk", "apt-get", "adduser", "addgroup", "useradd", "groupadd", "mkdir", "update-ca-certificates", "touch", "true",
		"echo", "rm", "strip", "upx", "chown", "chmod"}, command)
}

// readsMore are flags of go that name further files.
var readsMore = regexp.MustCompile(`^--?(C|pgo|overlay|modfile|toolexec|exec)\b`)

// notOnlyGo says what a step does that may read files which are no Go code; "" for nothing.
func notOnlyGo(step config.DockerfileStep) string {
	if step.Unclear {
		return "may do anything with it"
	}
	if strings.ContainsAny(step.Run, "`<") || strings.Contains(step.Run, "$(") {
		return "runs commands within another"
	}
	for _, command := range strings.FieldsFunc(step.Run, func(r rune) bool { return strings.ContainsRune("&|;\n", r) }) {
		words := strings.Fields(command)
		for len(words) > 0 && strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-") {
			words = words[1:]
		}
		switch {
		case len(words) == 0 || harmless(words[0]):
		case words[0] == "go" && len(words) > 1 && slices.Contains([]string{"build", "install", "mod", "test", "vet", "version", "env"}, words[1]):
			for _, word := range words[2:] {
				if readsMore.MatchString(word) {
					return "runs go with " + word
				}
			}
		default:
			return "runs " + words[0]
		}
	}
	return ""
}

// allowsOnly reports whether what is left out of a build is all but what is named: then the build sees no more than it
// needs.
func allowsOnly(rules *slipway.Ignore) bool {
	return rules != nil && slices.ContainsFunc(rules.Patterns, func(p string) bool { return p == "*" || p == "**" || p == "**/*" })
}

// goCodeIn is what the Go code of a service is made of that is part of a module above its folder; nothing for others.
func (t *tree) goCodeIn(svc *Service, b build) goCode {
	m, ok := t.goModuleAbove(svc.code)
	if svc.code == "." || !ok {
		return goCode{}
	}
	built, doubt := t.goBuilt(b, m)
	if len(t.goFolders(svc.code))+len(built) == 0 {
		return goCode{}
	}
	code := t.goCodeOf(svc.code, m, built)
	code.module, code.doubt = m.dir, cmp.Or(code.doubt, doubt)
	code.more = append(code.more, t.moduleFiles(m)...)
	return code
}

// narrow writes down what a service is made of whose Dockerfile copies the whole of its build context, where that is all that
// its build can use of it: the Go packages that it imports. It reports whether it did; if it did not for a doubt, that is told.
func (svc *Service) narrow(t *tree, known slipway.Service, b build, code goCode) bool {
	if b.whole == 0 || code.module == "" || svc.code == b.context || allowsOnly(known.Ignore) {
		return false
	}
	paths, doubt := t.uses(b)
	if doubt = cmp.Or(doubt, code.doubt); !under(code.module, b.context) {
		doubt = cmp.Or(doubt, "its module is not in there")
	}
	include := []string{svc.code + "/"}
	for _, p := range append(code.more, paths...) {
		include = append(include, p)
	}
	for _, c := range known.Copies {
		if c.Path != b.context && !strings.HasSuffix(c.Path, ".dockerignore") {
			include = append(include, c.Path)
		}
	}
	for _, d := range code.needs {
		if !fits(d.Path) {
			doubt = cmp.Or(doubt, "slipway.yaml cannot name "+d.Path)
		}
	}
	var listed []string
	for _, p := range include {
		if !fits(strings.ReplaceAll(p, "*", "")) {
			doubt = cmp.Or(doubt, "slipway.yaml cannot name "+p)
		}
		if text := yamlText("/" + p); !slices.Contains(listed, text) {
			listed = append(listed, text)
		}
	}
	if doubt != "" {
		svc.doubt = "; besides " + goParts(svc, code) + " its build may use more, as " + doubt
		return false
	}
	svc.set("trigger", "{paths: {include: ["+strings.Join(listed, ", ")+"]}}",
		"line %d of its Dockerfile copies all of %s, of which the build compiles this and what dependsOn names; other changes start no build, so add what else it reads (tests of other packages, files opened by their paths)",
		b.whole, inWords(b.context))
	return true
}

// fits reports whether a path means itself in slipway.yaml.
func fits(p string) bool { return !unfitPath.MatchString(p) && !strings.ContainsAny(p, "*?[") }

func inWords(dir string) string {
	if dir == "." {
		return "the repository"
	}
	return dir
}

// goParts names what Go code is made of, in short.
func goParts(svc *Service, code goCode) string {
	parts := []string{svc.code}
	for _, d := range code.needs {
		parts = append(parts, d.Path)
	}
	return slipway.InShort(append(parts, code.more...), 6)
}

// withImports are dependencies that manifests name, and those that follow from imports and are not among them.
func withImports(named, imported []Dependency) []Dependency {
	for _, d := range imported {
		if !slices.ContainsFunc(named, func(n Dependency) bool { return under(d.Path, n.Path) }) {
			d.imported = true
			named = append(named, d)
		}
	}
	slices.SortStableFunc(named, func(a, b Dependency) int { return strings.Compare(a.Path, b.Path) })
	return named
}
