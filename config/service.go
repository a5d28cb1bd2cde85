package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	maxDockerfile      = 1 << 20
	defaultTestStage   = "testrunner"
	defaultTestResults = "TestResults"
	defaultTestTimeout = 10 * time.Minute
)

// override applies the services of slipway.yaml to those that were discovered.
// Those without a path go first, as one with a path takes the place of what was discovered there and
// not named otherwise.
func (d *draft) override(services value) {
	for i, k := range services.keys {
		settings := services.items[i]
		if settings.isFalse() {
			d.remove(k.Value, settings)
			continue
		}
		if settings.get("path").present() || slices.Contains(settings.faulty, "path") {
			continue
		}
		if at := d.index(k.Value); at >= 0 {
			d.services[at].settings = settings
			continue
		}
		d.problems.add(settings.problem(d.nearestService(k.Value), "no folder with a Dockerfile has the name %s", k.Value))
	}
	for i, k := range services.keys {
		if p := services.items[i].get("path"); p.present() {
			d.place(k.Value, path.Clean(p.text("")), services.items[i])
		}
	}
}

func (d *draft) nearestService(name string) string {
	var known []string
	for _, s := range d.services {
		known = append(known, s.Name)
	}
	hint := "set its path"
	if n := nearest(name, known); n != "" {
		hint = "did you mean " + n + "? Else " + hint
	}
	return hint
}

func (d *draft) index(name string) int {
	return slices.IndexFunc(d.services, func(s found) bool { return s.Name == name })
}

func (d *draft) remove(name string, settings value) {
	at := d.index(name)
	if at < 0 {
		d.problems.add(settings.problem(d.nearestService(name), "no folder with a Dockerfile has the name %s, so there is nothing to leave out", name))
		return
	}
	d.services = slices.Delete(d.services, at, at+1)
}

// place puts a service at the folder that the file names; the one that was discovered there gives way.
func (d *draft) place(name, dir string, settings value) {
	ok, err := exists(d.fsys, dir, true)
	if err != nil || !ok {
		why := "it is not a folder of the repository"
		if err != nil {
			why = because(err)
		}
		d.problems.add(settings.get("path").problem("expected a folder with a Dockerfile", "%s: %s", dir, why))
		return
	}
	dir = d.real(dir)
	d.services = slices.DeleteFunc(d.services, func(s found) bool { return s.Dir == dir && s.settings.node == nil })
	d.services = append(d.services, found{Service: slipway.Service{Name: name, Dir: dir, Dockerfile: "Dockerfile"}, settings: settings})
}

// finish completes each service from its settings, its Dockerfile and its chart.
func (d *draft) finish() ([]slipway.Service, Problems) {
	slices.SortFunc(d.services, func(a, b found) int { return cmp.Compare(a.Name, b.Name) })
	out := make([]slipway.Service, 0, len(d.services))
	for i := range d.services {
		d.complete(&d.services[i])
	}
	d.below = claimsBelow(d.services)
	for i := range d.services {
		d.dockerfileOf(&d.services[i]) // which may copy from the folders and charts of all the others
	}
	d.sameBuild()
	d.dependencies()
	for _, s := range d.services {
		out = append(out, s.Service)
	}
	return out, d.problems
}

func (d *draft) complete(s *found) {
	set := s.settings
	if f := set.get("dockerfile"); f.present() {
		s.Dockerfile = path.Clean(f.text(""))
	}
	s.Target = set.get("target").text("")
	s.Args = set.get("args").table()
	s.After = set.get("after").texts()
	s.Trigger = triggerOf(set.get("trigger"))
	s.Rollback = slipway.RollbackMode(set.get("rollback").text(string(slipway.RollbackAutomatic)))
	s.Verify.Timeout = set.get("verify").get("timeout").duration(0, &d.problems)
	s.Verify.Tests = set.get("verify").get("tests").boolean(true)
	s.Scan = scanOf(set)
	s.Port = set.get("port").integer(0)
	d.reserved(set.get("args"))
	d.chartOf(s)
}

// reserved refuses build arguments that would change how Slipway builds.
func (d *draft) reserved(args value) {
	for i, k := range args.keys {
		if k.Value == "SOURCE_DATE_EPOCH" || strings.HasPrefix(k.Value, "BUILDKIT_") {
			d.problems.add(args.items[i].problem("take it away", "Slipway sets %s itself", k.Value))
		}
	}
}

func (d *draft) chartOf(s *found) {
	given := s.settings.get("chart")
	if !given.present() {
		s.Chart = d.real(d.chart(s.Service))
		return
	}
	s.Chart = d.real(path.Clean(given.text("")))
	ok, err := exists(d.fsys, path.Join(s.Chart, "Chart.yaml"), false)
	if err != nil {
		d.problems.add(given.problem("replace the link by a file", "%s/Chart.yaml: %s", s.Chart, because(err)))
	} else if !ok {
		d.problems.add(given.problem("expected a folder of the repository with a Helm chart", "%s has no Chart.yaml", s.Chart))
	}
}

// real is a folder of the tree without the links on the way to it, as files below it are named where they change;
// it is the folder as it is written where it leads nowhere.
func (d *draft) real(folder string) string {
	if folder == "" {
		return ""
	}
	if real, err := resolve(d.fsys, folder); err == nil {
		return real
	}
	return folder
}

// dockerfileOf reads what the Dockerfile says of stages and ports.
func (d *draft) dockerfileOf(s *found) {
	file := path.Join(s.Dir, s.Dockerfile)
	data, err := read(d.fsys, file, maxDockerfile)
	if err != nil {
		p := Problem{File: file, Message: because(err)}
		if at := cmp.Or(s.settings.get("dockerfile").node, s.settings.get("path").node); at != nil {
			p = s.settings.problem("set dockerfile, relative to path", "%s: %s", file, because(err))
			p.Line, p.Column = at.Line, at.Column
		}
		d.problems.add(p)
		return
	}
	sum := sha256.Sum256(data)
	s.DockerfileSum = hex.EncodeToString(sum[:])
	content, problems := ParseDockerfile(file, data)
	for _, p := range problems {
		d.problems.add(p)
	}
	if len(problems) > 0 {
		return
	}
	if _, ok := content.Stage(s.Target); !ok {
		d.problems.add(s.settings.get("target").problem(didYouMeanStage(s.Target, content), "%s has no stage %s", file, s.Target))
		return
	}
	if s.Port == 0 {
		s.Port = content.Port(s.Target)
	}
	d.testOf(s, content)
	d.contextOf(s, content)
	d.dockerfileInContext(s)
	s.Pins = pinsOf(content, s.Service, d.pins)
	s.images = content.Images
}

// dockerfileInContext refuses a Dockerfile that is a link out of the build context, which a build does not follow.
func (d *draft) dockerfileInContext(s *found) {
	context, dockerfile := s.BuildContext()
	file := path.Join(s.Dir, s.Dockerfile)
	if ok, err := exists(d.fsys, context, true); err != nil || !ok || !inside(file, context) {
		return // which is told
	}
	if _, _, err := followIn(d.fsys, context, dockerfile); !errors.Is(err, errOutside) {
		return
	}
	where := "its build context " + context
	if context == s.Dir {
		where += ", the service's folder"
	}
	p := Problem{File: file, Line: 1, Message: "it is a link that leads out of " + where + ", where a build does not follow it",
		Hint: fmt.Sprintf("replace the link by the file, or let the build context be a folder that holds both: services: {%s: {context: .}}", s.Name)}
	if at := cmp.Or(s.settings.get("context").node, s.settings.get("dockerfile").node, s.settings.get("path").node); at != nil {
		p = s.settings.problem(p.Hint, "%s: %s", file, p.Message)
		p.Line, p.Column = at.Line, at.Column
	}
	d.problems.add(p)
}

func didYouMeanStage(name string, content Dockerfile) string {
	if len(content.names()) == 0 {
		return "its stages have no names: write FROM ... AS " + name
	}
	return didYouMean(name, content.names())
}

func (d *draft) testOf(s *found, content Dockerfile) {
	set := s.settings.get("test")
	if set.isFalse() {
		return
	}
	stage := set.get("stage").text(defaultTestStage)
	if _, ok := content.Stage(stage); !ok {
		if set.present() {
			d.problems.add(set.problem(didYouMeanStage(stage, content), "%s has no stage %s", path.Join(s.Dir, s.Dockerfile), stage))
		}
		return
	}
	if last := content.Stages[len(content.Stages)-1]; s.Target == "" && last.Name == strings.ToLower(stage) {
		d.problems.add(Problem{File: path.Join(s.Dir, s.Dockerfile), Line: last.Line,
			Message: "the last stage is " + stage + ", so the image that is deployed would be the one that runs the tests",
			Hint:    "move it before the stage of the service, or set services." + s.Name + ".target"})
	}
	s.Test = &slipway.ServiceTest{
		Stage:    stage,
		Results:  path.Clean(set.get("results").text(defaultTestResults)),
		Timeout:  set.get("timeout").duration(defaultTestTimeout, &d.problems),
		Services: testServicesOf(set.get("services"), &d.problems),
	}
}

// sameBuild refuses two services that are one image.
func (d *draft) sameBuild() {
	type build struct{ dir, dockerfile, target string }
	first := map[build]string{}
	for _, s := range d.services {
		b := build{s.Dir, s.Dockerfile, s.Target}
		if other, twice := first[b]; twice {
			d.problems.add(s.settings.get("path").problem("set dockerfile or target of one of them",
				"%s and %s are built from the same folder, Dockerfile and target", other, s.Name))
			continue
		}
		first[b] = s.Name
	}
}
