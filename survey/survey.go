// Package survey looks at a repository and says what is in it: its services, their languages, tests, charts and
// dependencies, what is missing, and the slipway.yaml that it needs, with a reason for each line. It reads the tree that
// it is given and nothing else; it writes nothing, asks no git and prints nothing.
package survey

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// Findings are what is in a repository, as `slipway init -o json` prints it.
type Findings struct {
	Services []Service `json:"services"`
	Others   []Folder  `json:"others"`   // programs and libraries that are no service, and that no service depends on
	Notes    []string  `json:"notes"`    // about the repository as a whole
	Problems []string  `json:"problems"` // what would remain wrong with what is written
	File     string    `json:"file"`     // slipway.yaml as it should be; empty: everything keeps to the conventions
}

// Service is a service that was found.
type Service struct {
	Name      string       `json:"name"`
	Dir       string       `json:"dir"`
	Language  string       `json:"language,omitempty"`
	Known     string       `json:"knownBy,omitempty"` // the file that the language is known by
	Tests     string       `json:"tests,omitempty"`   // stage of the Dockerfile
	Chart     string       `json:"chart,omitempty"`   // folder; empty: the standard chart
	DependsOn []Dependency `json:"dependsOn"`
	Missing   []string     `json:"missing"` // each with what to do
	Settings  []Setting    `json:"-"`       // of slipway.yaml, in its order

	doubt      string // why not all is known that it takes of a build context which its Dockerfile copies as a whole
	code       string // folder of its code: Dir, unless the Dockerfile is in a folder of its own
	variant    string // which of several Dockerfiles of the folder it is built with, by its name
	dockerfile string // relative to Dir
}

// Folder is a folder with code of its own that nothing is built of.
type Folder struct {
	Dir      string `json:"dir"`
	Language string `json:"language"`
	Known    string `json:"knownBy"`
}

// Setting is a key of a service in slipway.yaml, and why it stands there.
type Setting struct {
	Key, Value, Why string
	List            []string // in place of a value
}

func (s *Service) set(key, value, why string, more ...any) {
	s.Settings = append(s.Settings, Setting{Key: key, Value: value, Why: fmt.Sprintf(why, more...)})
}

func (s *Service) missing(format string, args ...any) {
	s.Missing = append(s.Missing, fmt.Sprintf(format, args...))
}

// Look finds out what is in a repository and how that differs from the conventions; a service at its root is called
// like the project. What cannot be read there is no error: it is among the problems. An error says that the tree could
// not be searched as a whole.
func Look(fsys fs.FS, project string) (Findings, error) {
	t, err := walk(fsys)
	if err != nil {
		return Findings{}, err
	}
	s := Findings{Services: []Service{}, Others: []Folder{}, Notes: []string{}, Problems: []string{}}
	for _, p := range named(t.places(), rootNames(fsys, project)) {
		if unfitPath.MatchString(p.Dir) && len(p.Settings) > 0 { // a path
			s.Notes = append(s.Notes, fmt.Sprintf("%s is left out: slipway.yaml cannot name such a folder", p.Dir))
			continue
		}
		s.Services = append(s.Services, p)
	}
	for i := range s.Services {
		t.describe(&s.Services[i])
	}
	s.matchCharts(t)
	read := func() (slipway.Config, config.Problems) {
		data := []byte(nil)
		s.placeRoot()
		if s.File = writeSettings(s.Services); s.File != "" {
			data = []byte(s.File)
		}
		return config.Load(withFile{FS: fsys, name: config.Name, data: data}, config.Offline(project, ""))
	}
	found, _ := read()
	s.asSaid(t, found)
	found, _ = read()
	s.depend(t, found)
	found, problems := read()
	for _, p := range problems {
		s.Problems = append(s.Problems, p.String())
	}
	s.builds(t, found)
	s.ports(found)
	s.remarks(t)
	return s, nil
}

// rootNames tells of a folder what the service is called that is made of the whole repository with the Dockerfile there: as
// slipway.yaml calls it already, else as the project.
func rootNames(fsys fs.FS, project string) func(dir string) string {
	have, _ := config.LoadServices(fsys, config.Options{Project: project}) // what is wrong with it is told of what is written
	found, _ := config.Discover(fsys, project)
	return func(dir string) string {
		for _, s := range have.Services {
			byFolder := slices.ContainsFunc(found, func(f slipway.Service) bool { return f.Name == s.Name && f.Dir == dir })
			if s.Dir == dir && !byFolder {
				return s.Name
			}
		}
		return project
	}
}

// placeRoot writes down where the service at the root is if the file names it: without that, what it is called
// depends on who reads the file.
func (s *Findings) placeRoot() {
	for i := range s.Services {
		root := &s.Services[i]
		meant := func(o Service) bool {
			return slices.ContainsFunc(o.Settings, func(x Setting) bool { return slices.Contains(x.List, root.Name) })
		}
		if root.Dir == "." && (len(root.Settings) > 0 || slices.ContainsFunc(s.Services, meant)) {
			root.place("it is at the root: without this it would be called like the project")
		}
	}
}

// unfitPath are paths that slipway.yaml does not take.
var unfitPath = regexp.MustCompile(`(^|/)-|[\\\x00-\x1f\x7f]`)

// named gives each service a name that no other has, the ones nearest to the root first. root names what is made of the
// whole repository with the Dockerfile in a folder.
func named(all []Service, root func(dir string) string) []Service {
	slices.SortStableFunc(all, func(a, b Service) int {
		return cmp.Or(cmp.Compare(strings.Count(a.Dir, "/"), strings.Count(b.Dir, "/")), strings.Compare(a.Dir, b.Dir), strings.Compare(a.Name, b.Name))
	})
	taken, alike := map[string]int{}, map[string]int{}
	for _, s := range all {
		alike[config.ShortName(path.Base(s.Dir))]++
	}
	for i := range all {
		s := &all[i]
		if s.code == "." && s.Name == "" {
			s.Name = root(s.Dir)
		}
		other, clash := taken[s.Name]
		switch {
		case clash:
			s.place("there is a service %s in %s already", s.Name, all[other].Dir)
			all[other].place("there is one of that name in %s, too", s.Dir)
			s.Name = otherName(s.code, s.variant, taken)
		case !slipway.ValidName(s.Name):
			s.place("the folder's name does not do as the name of a service")
			s.Name = otherName(s.code, s.variant, taken)
		}
		taken[s.Name] = i
	}
	for i := range all {
		if s := &all[i]; s.Dir != "." && alike[config.ShortName(path.Base(s.Dir))] > 1 {
			s.place("other folders have that name, too")
		}
	}
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// place writes the path of a service down, unless it is.
func (s *Service) place(why string, args ...any) {
	if !slices.ContainsFunc(s.Settings, func(x Setting) bool { return x.Key == "path" }) {
		s.Settings = append([]Setting{{Key: "path", Value: s.Dir, Why: fmt.Sprintf(why, args...)}}, s.Settings...)
	}
}

// otherName is a name for the code in a folder that is not taken: its own, or that of one of several Dockerfiles
// there, with that of a folder above, the nearest first; else with a number.
func otherName(code, variant string, taken map[string]int) string {
	last := config.ShortName(path.Base(code))
	if variant != "" {
		last = config.ShortName(variant)
	}
	base := ""
	for above := code; above != "."; above = path.Dir(above) {
		part := path.Base(path.Dir(above))
		if variant != "" {
			part = path.Base(above)
		}
		name := strings.Trim(config.ShortName(part)+"-"+last, "-")
		if _, ok := taken[name]; !ok && slipway.ValidName(name) {
			return name
		}
		base = cmp.Or(base, config.ShortName(name))
	}
	base = cmp.Or(base, last, "service")
	name := base
	for n := 2; ; n++ {
		if _, ok := taken[name]; !ok && slipway.ValidName(name) {
			return name
		}
		name = fmt.Sprintf("%s-%d", strings.TrimRight(base[:min(len(base), 36)], "-"), n)
	}
}

// forPeople are Dockerfiles that are not for what is deployed.
var forPeople = regexp.MustCompile(`(?i)^(dev|devel|development|debug|local|test|tests|ci|build|builder|dockerignore)$`)

// ofBuild are folders that hold how a thing is built rather than a thing.
var ofBuild = regexp.MustCompile(`(?i)^(docker|build|deploy|deployment|container|ci|image|package)$`)

// saysNothing are folders that are named after what is in every service.
var saysNothing = regexp.MustCompile(`(?i)^(src|source|app|code|main|cmd|service|server)$`)

// testFolder are folders of tests, which no service depends on.
var testFolder = regexp.MustCompile(`(?i)(^|[^a-z])(e2e|tests?|specs?)([^a-z]|$)`)

// places are the services of a repository, named after their folders.
func (t *tree) places() []Service {
	var all []Service
	for _, dir := range t.dockerfiles {
		s := Service{Name: config.ShortName(path.Base(dir)), Dir: dir, code: dir, dockerfile: "Dockerfile"}
		parent := path.Dir(dir)
		language, known := t.language(parent)
		_, own := t.language(dir)
		switch {
		case dir == ".":
			s.Name = ""
		case parent != "." && (saysNothing.MatchString(path.Base(dir)) || own == "" && known == "" && ofBuild.MatchString(path.Base(dir))):
			s.Name = config.ShortName(path.Base(parent))
			s.set("path", dir, "the folder's own name says nothing")
		case own == "" && known != "" && ofBuild.MatchString(path.Base(dir)) && !slices.Contains(t.dockerfiles, parent):
			s.code, s.Name = parent, config.ShortName(path.Base(parent))
			if parent == "." {
				s.Name = ""
			}
			s.set("path", dir, "the Dockerfile of the %s code in %s", language, parent)
			s.set("context", parent, "which is what it copies from")
		}
		all = append(all, s)
	}
	for _, dir := range t.folders {
		if !slices.ContainsFunc(t.dockerfiles, func(d string) bool { return d == dir || (d != "." && under(dir, d)) }) {
			all = append(all, t.otherDockerfiles(dir)...)
		}
	}
	return all
}

// otherDockerfiles are the services of a folder whose Dockerfiles have other names.
func (t *tree) otherDockerfiles(dir string) (all []Service) {
	var whole []string // files for the folder as a whole
	refused := func(file string) bool {
		at, why := path.Join(dir, file), ""
		if _, problems := config.ParseDockerfile(at, []byte(t.read(at))); len(problems) > 0 {
			why = "it does not parse as a Dockerfile"
		}
		if slices.ContainsFunc(strings.Split(dir, "/"), testFolder.MatchString) {
			why = "it is in a folder of tests; name it in slipway.yaml, by path and dockerfile, if it is one"
		}
		if why != "" {
			t.unfit = append(t.unfit, fmt.Sprintf("%s makes no service: %s", at, why))
		}
		return why != ""
	}
	for _, file := range t.files[dir] {
		lower := strings.ToLower(file)
		if of, ok := strings.CutSuffix(lower, ".dockerfile"); ok && !forPeople.MatchString(of) && !refused(file) {
			s := Service{Name: config.ShortName(of), Dir: dir, code: dir, dockerfile: file, variant: of}
			all = append(all, s)
		}
		if variant, ok := strings.CutPrefix(lower, "dockerfile."); ((ok && !forPeople.MatchString(variant)) || lower == "containerfile") && !refused(file) {
			whole = append(whole, file)
		}
	}
	for _, file := range whole {
		s := Service{Name: config.ShortName(path.Base(dir)), Dir: dir, code: dir, dockerfile: file}
		if variant := strings.ToLower(strings.TrimPrefix(path.Ext(file), ".")); len(whole) > 1 && variant != "" {
			s.Name, s.variant = config.ShortName(variant), variant
		}
		all = append(all, s)
	}
	for i := range all {
		all[i].set("path", dir, "its Dockerfile is not named Dockerfile")
		all[i].set("dockerfile", all[i].dockerfile, "")
	}
	return all
}

// testStages are the names that stages for tests have elsewhere.
var testStages = regexp.MustCompile(`^(tests?|testing|tester|test-?runner|run-?tests?|unit-?tests?|unittesting|specs?|check)$`)

// describe finds out about a service: language, stage of the tests, chart by convention.
func (t *tree) describe(s *Service) {
	s.DependsOn, s.Missing = []Dependency{}, []string{}
	s.Language, s.Known = t.language(s.code)
	for _, dir := range []string{path.Join(s.Dir, "chart"), path.Join("charts", s.Name)} {
		if slices.ContainsFunc(t.charts, func(c chart) bool { return c.dir == dir }) {
			s.Chart = dir
			break
		}
	}
	file := path.Join(s.Dir, s.dockerfile)
	text := t.read(file)
	parsed, problems := config.ParseDockerfile(file, []byte(text))
	if len(problems) > 0 {
		return // told with the configuration's problems
	}
	if _, ok := parsed.Stage("testrunner"); ok {
		s.Tests = "testrunner"
		return
	}
	for i, stage := range parsed.Stages {
		if !testStages.MatchString(stage.Name) {
			continue
		}
		switch {
		case i == len(parsed.Stages)-1:
			s.missing("no tests run: the stage %s is the last one of %s, and so the image; put it before the stage of the service", stage.Name, file)
		case !runs(text, parsed, stage):
			s.missing("no tests run: the stage %s of %s has no ENTRYPOINT, which Slipway runs in a container to read the results", stage.Name, file)
		default:
			s.Tests = stage.Name
			s.set("test", "{stage: "+yamlText(stage.Name)+"}", "the stage that runs the tests is named %s, not testrunner", stage.Name)
		}
		return
	}
	s.missing("no tests run: its Dockerfile has no stage testrunner; add one whose ENTRYPOINT runs them and writes JUnit or TRX files to $SLIPWAY_TEST_RESULTS")
}

var entrypoint = regexp.MustCompile(`(?i)^\s*(ENTRYPOINT|CMD)\s`)

// runs reports whether a stage, or a stage of the file that it is built on, says what is run.
func runs(text string, d config.Dockerfile, stage config.DockerfileStage) bool {
	lines := strings.Split(text, "\n")
	for range d.Stages {
		end := len(lines)
		for _, s := range d.Stages {
			if s.Line > stage.Line {
				end = min(end, s.Line-1)
			}
		}
		if slices.ContainsFunc(lines[min(stage.Line, len(lines)):end], entrypoint.MatchString) {
			return true
		}
		base, ok := d.Stage(stage.Base)
		if !ok || base.Line >= stage.Line {
			return false
		}
		stage = base
	}
	return false
}

// matchCharts finds charts that are not where convention has them: in the service's folder, or under the
// service's name.
func (s *Findings) matchCharts(t *tree) {
	used := map[string]bool{}
	for _, svc := range s.Services {
		used[svc.Chart] = true
	}
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Chart != "" {
			continue
		}
		var inside, byName []chart
		for _, c := range t.charts {
			if svc.code != "." && under(c.dir, svc.code) {
				inside = append(inside, c)
			}
			if c.name == svc.Name || path.Base(c.dir) == svc.Name {
				byName = append(byName, c)
			}
		}
		switch {
		case len(inside) == 1:
			svc.Chart = inside[0].dir
			svc.set("chart", svc.Chart, "the only chart in its folder")
		case len(byName) == 1:
			svc.Chart = byName[0].dir
			svc.set("chart", svc.Chart, "the chart of that name")
		case len(inside)+len(byName) > 1:
			svc.missing("no chart of its own: several could be it; set chart: in slipway.yaml to the right one")
			continue
		default:
			svc.missing("no chart of its own: it is deployed with the standard chart; put one into its folder, as chart, if that does not do")
			continue
		}
		used[svc.Chart] = true
	}
	for _, c := range t.charts {
		if !used[c.dir] {
			s.Notes = append(s.Notes, fmt.Sprintf("the chart in %s belongs to no service, and is not deployed", c.dir))
		}
	}
}

// depend finds what the services depend on; found is the configuration so far.
func (s *Findings) depend(t *tree, found slipway.Config) {
	owner := map[string]string{}
	for _, svc := range s.Services {
		owner[svc.code] = svc.Name
	}
	for i := range s.Services {
		svc := &s.Services[i]
		known, _ := found.Service(svc.Name)
		context, _ := known.BuildContext()
		b := t.buildOf(svc, known)
		code := t.goCodeIn(svc, b)
		narrow := svc.narrow(t, known, b, code)
		var written, unseen []string
		for _, d := range withImports(t.dependenciesOf(svc.code), code.needs) {
			d.Service = owner[d.Path]
			d.copied = slices.ContainsFunc(known.Copies, func(c slipway.Copy) bool { return under(d.Path, c.Path) && !(narrow && c.Path == context) })
			switch {
			case d.copied && !narrow: // what paths name takes the place of what is copied
			case d.Service != "" && !d.imported && s.reaches(d.Service, svc.Name):
				s.Notes = append(s.Notes, fmt.Sprintf("%s and %s depend on each other: only one of them can be written down", svc.Name, d.Service))
				continue
			case d.imported:
				written = append(written, folderItem(found, d.Path))
			default:
				written = append(written, cmp.Or(d.Service, folderItem(found, d.Path)))
			}
			if !under(d.Path, context) {
				unseen = append(unseen, d.Path)
			}
			svc.DependsOn = append(svc.DependsOn, d)
		}
		for _, c := range known.Copies {
			if c.Line > 0 && c.Path != "." && !(narrow && c.Path == context) && !slices.ContainsFunc(svc.DependsOn, func(d Dependency) bool { return under(d.Path, c.Path) }) && !under(c.Path, svc.code) {
				svc.DependsOn = append(svc.DependsOn, Dependency{Path: c.Path, Service: owner[c.Path], Why: fmt.Sprintf("line %d of its Dockerfile copies it", c.Line), copied: true})
			}
		}
		if len(written) > 0 {
			svc.Settings = append(svc.Settings, Setting{Key: "dependsOn", List: written, Why: "changes there are changes of this service"})
		}
		if len(unseen) > 0 {
			svc.missing("its build does not see %s: build from the root of the repository (COPY %s ... in the Dockerfile), or publish what is shared", strings.Join(unseen, ", "), unseen[0])
		}
	}
}

// folderItem names a folder in dependsOn, and not the service of that name.
func folderItem(found slipway.Config, dir string) string {
	if _, ok := found.Service(dir); ok {
		return "./" + dir
	}
	return dir
}

// reaches reports whether a service depends on another one, as far as it is known now.
func (s *Findings) reaches(from, to string) bool {
	at := slices.IndexFunc(s.Services, func(x Service) bool { return x.Name == from })
	return at >= 0 && slices.ContainsFunc(s.Services[at].DependsOn, func(d Dependency) bool {
		return !d.copied && !d.imported && d.Service != "" && (d.Service == to || s.reaches(d.Service, to))
	})
}

// ports tells of services that nothing reaches.
func (s *Findings) ports(found slipway.Config) {
	for i := range s.Services {
		svc := &s.Services[i]
		if known, ok := found.Service(svc.Name); ok && svc.Chart == "" && known.Port == 0 {
			svc.missing("nothing reaches it: its Dockerfile does not EXPOSE exactly one port; set port: in slipway.yaml if it listens")
		}
	}
}

// remarks tells what is in the repository and is no service.
func (s *Findings) remarks(t *tree) {
	s.Notes = append(s.Notes, t.unfit...)
	for _, svc := range s.Services {
		if !stated(svc.Settings, "path") && slices.ContainsFunc(strings.Split(svc.Dir, "/"), testFolder.MatchString) {
			s.Notes = append(s.Notes, fmt.Sprintf("%s is in a folder of tests, %s: if it is no service, say %s: false in slipway.yaml", svc.Name, svc.Dir, svc.Name))
		}
	}
	for _, file := range t.unsearched {
		s.Notes = append(s.Notes, fmt.Sprintf("%s is no service: such folders are not searched", file))
	}
	for _, dir := range t.folders {
		language, file := t.language(dir)
		part := slices.ContainsFunc(s.Services, func(x Service) bool {
			return under(dir, x.code) || under(x.code, dir) || slices.ContainsFunc(x.DependsOn, func(d Dependency) bool { return under(dir, d.Path) || under(d.Path, dir) })
		})
		tests := slices.ContainsFunc(strings.Split(dir, "/"), testFolder.MatchString)
		if file == "" || strings.HasPrefix(path.Base(file), ".") || part || !manifest(file) || tests {
			continue
		}
		s.Others = append(s.Others, Folder{Dir: dir, Language: language, Known: file})
	}
}

// manifest reports whether a file stands for a program or library of its own.
func manifest(file string) bool {
	return !strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, ".py") && file != "index.html" && file != "tsconfig.json"
}
