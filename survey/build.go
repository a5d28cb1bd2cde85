package survey

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// saidBuild is what a file of another tool says of how an image is built.
type saidBuild struct {
	by         string // the file
	name       string // of the service or image there
	context    string // folder of the repository
	dockerfile string // of the repository
	target     string // stage that it stops at, "" for the last one
	ports      []int  // that its container listens on
}

// saidBuilds are the builds that compose files and skaffold.yaml at the top of the repository describe.
func (t *tree) saidBuilds() (all []saidBuild) {
	for _, file := range t.files["."] {
		switch {
		case composeFile.MatchString(file):
			all = append(all, t.compose(file)...)
		case file == "skaffold.yaml" || file == "skaffold.yml":
			all = append(all, t.skaffold(file)...)
		}
	}
	return all
}

var composeFile = regexp.MustCompile(`^(docker-)?compose\.ya?ml$`)

// compose reads the services of a compose file that are built here.
func (t *tree) compose(file string) (all []saidBuild) {
	var doc struct {
		Services map[string]struct {
			Build  yaml.Node
			Ports  []yaml.Node
			Expose []yaml.Node
		}
	}
	if yaml.Unmarshal([]byte(t.read(file)), &doc) != nil {
		return nil // what it says is not known
	}
	env := t.environment(".env")
	for name, s := range doc.Services {
		var build struct{ Context, Dockerfile, Target string }
		if s.Build.Kind == yaml.ScalarNode {
			build.Context = s.Build.Value
		} else if s.Build.Decode(&build) != nil || s.Build.IsZero() {
			continue
		}
		b, ok := saidAt(file, name, expandCompose(build.Context, env), expandCompose(build.Dockerfile, env))
		if !ok {
			continue
		}
		b.target = strings.ToLower(expandCompose(build.Target, env))
		for _, p := range append(s.Ports, s.Expose...) {
			if port := containerPort(p, env); port > 0 && !slices.Contains(b.ports, port) {
				b.ports = append(b.ports, port)
			}
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b saidBuild) int { return strings.Compare(a.name, b.name) })
	return all
}

// skaffold reads the images of all documents of a skaffold.yaml.
func (t *tree) skaffold(file string) (all []saidBuild) {
	dec := yaml.NewDecoder(strings.NewReader(t.read(file)))
	for {
		var doc struct {
			Build struct {
				Artifacts []struct {
					Image, Context string
					Docker         struct{ Dockerfile, Target string }
				}
			}
		}
		if dec.Decode(&doc) != nil {
			return all
		}
		for _, a := range doc.Build.Artifacts {
			if b, ok := saidAt(file, path.Base(a.Image), a.Context, a.Docker.Dockerfile); ok {
				b.target = strings.ToLower(a.Docker.Target)
				all = append(all, b)
			}
		}
	}
}

// saidAt is a build with its places in the repository; not ok when they are not in it.
func saidAt(by, name, context, dockerfile string) (saidBuild, bool) {
	b := saidBuild{by: by, name: name, context: path.Clean(cmp.Or(context, "."))}
	b.dockerfile = path.Join(b.context, cmp.Or(dockerfile, "Dockerfile"))
	outside := func(p string) bool {
		return path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "$:#") || unfitPath.MatchString(p)
	}
	return b, !outside(b.context) && !outside(b.dockerfile)
}

// environment reads a file of NAME=value.
func (t *tree) environment(file string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(t.read(file)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			env[strings.TrimSpace(strings.TrimPrefix(name, "export "))] = expandCompose(strings.Trim(strings.TrimSpace(value), `"'`), env)
		}
	}
	return env
}

var composeVariable = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\})`)

// expandCompose puts in what the environment has, or the default beside the name; what is not known stays.
func expandCompose(text string, env map[string]string) string {
	return composeVariable.ReplaceAllStringFunc(text, func(v string) string {
		m := composeVariable.FindStringSubmatch(v)
		return cmp.Or(env[cmp.Or(m[1], m[2])], m[3], v)
	})
}

// containerPort is the port in the container that an entry of ports or expose names; 0 when it is not one TCP
// port.
func containerPort(n yaml.Node, env map[string]string) int {
	text := n.Value
	if n.Kind == yaml.MappingNode {
		var long struct{ Target, Protocol string }
		if n.Decode(&long) != nil || long.Protocol == "udp" {
			return 0
		}
		text = long.Target
	}
	text, protocol, _ := strings.Cut(expandCompose(text, env), "/")
	port, err := strconv.Atoi(text[strings.LastIndexByte(text, ':')+1:])
	if err != nil || port < 1 || port > 65535 || (protocol != "" && protocol != "tcp") {
		return 0
	}
	return port
}

// asSaid takes over what other tools' files say of the builds of the services: the context where the
// conventions have another one, and the port where the Dockerfile has none.
func (s *Findings) asSaid(t *tree, found slipway.Config) {
	said := t.saidBuilds()
	for i := range s.Services {
		svc := &s.Services[i]
		known, ok := found.Service(svc.Name)
		if !ok {
			continue
		}
		var of []saidBuild
		for _, b := range said {
			if b.dockerfile == path.Join(svc.Dir, svc.dockerfile) {
				of = append(of, b)
			}
		}
		if len(of) == 0 {
			continue
		}
		context, _ := known.BuildContext()
		there := of[0].context
		same := !slices.ContainsFunc(of, func(b saidBuild) bool { return b.context != there })
		stated := slices.ContainsFunc(svc.Settings, func(x Setting) bool { return x.Key == "context" })
		if same && there != context && !stated && t.isFolder(there) && under(path.Join(svc.Dir, svc.dockerfile), there) {
			svc.set("context", there, "%s builds it from there", of[0].by)
		}
		svc.targetSaid(t, of)
		if known.Port == 0 && svc.Chart == "" {
			if port, by := onePort(of); port > 0 {
				svc.set("port", strconv.Itoa(port), "%s has it; the Dockerfile does not EXPOSE exactly one", by)
			}
		}
	}
}

// targetSaid takes over the stage that builds of the service's Dockerfile stop at; of several stages each makes an image of
// its own, which people have to name. Stages for tests and for people at work are not what is deployed.
func (svc *Service) targetSaid(t *tree, of []saidBuild) {
	file := path.Join(svc.Dir, svc.dockerfile)
	parsed, problems := config.ParseDockerfile(file, []byte(t.read(file)))
	if len(problems) > 0 || len(parsed.Stages) == 0 {
		return
	}
	var targets []string
	for _, b := range of {
		known := slices.ContainsFunc(parsed.Stages, func(s config.DockerfileStage) bool { return s.Name == b.target })
		switch {
		case b.target == "" || b.target == parsed.Stages[len(parsed.Stages)-1].Name:
			b.target = ""
		case !known || forPeople.MatchString(b.target) || testStages.MatchString(b.target) || b.target == svc.Tests:
			continue
		}
		if !slices.Contains(targets, b.target) {
			targets = append(targets, b.target)
		}
	}
	switch {
	case len(targets) == 1 && targets[0] != "":
		svc.set("target", targets[0], "%s builds that stage", of[0].by)
	case len(targets) > 1:
		var named []string
		for _, target := range targets {
			named = append(named, cmp.Or(target, "the last one"))
		}
		svc.missing("one of several images is built: %s builds the stages %s of %s, and Slipway the last one; make each a service in slipway.yaml, as a-name: {path: %s, target: STAGE}",
			of[0].by, strings.Join(named, ", "), file, svc.Dir)
	}
}

// onePort is the port that builds agree on; 0 when they name none or several.
func onePort(of []saidBuild) (port int, by string) {
	for _, b := range of {
		for _, p := range b.ports {
			if port != 0 && p != port {
				return 0, ""
			}
			port, by = p, b.by
		}
	}
	return port, by
}

// builds tells what stands in the way of a service's build: sources that are not in the repository, and those
// that nobody can know.
func (s *Findings) builds(t *tree, found slipway.Config) {
	for i := range s.Services {
		svc := &s.Services[i]
		known, ok := found.Service(svc.Name)
		file := path.Join(svc.Dir, svc.dockerfile)
		parsed, problems := config.ParseDockerfile(file, []byte(t.read(file)))
		if !ok || len(problems) > 0 {
			continue
		}
		context, _ := known.BuildContext()
		args := platformArgs(known.Args)
		var absent, everything []string
		for _, source := range parsed.Sources {
			p, sure := parsed.Path(source, args)
			at := path.Join(context, p)
			switch {
			case !sure && at == ".":
				svc.missing("every change runs it: line %d of %s copies %s, and which file that is nobody said; give the argument a value with args in slipway.yaml", source.Line, file, source.Text)
			case sure && at == "." && !stated(svc.Settings, "trigger"):
				everything = append(everything, strconv.Itoa(source.Line))
			case sure && !t.holds(at):
				absent = append(absent, fmt.Sprintf("%s in line %d", source.Text, source.Line))
			}
		}
		if len(absent) > 0 {
			svc.missing("its build would fail: %s copies what its build context %s does not hold: %s; what is built is what is committed, so make it in a stage of the Dockerfile", file, context, slipway.InShort(absent, 3))
		}
		if len(everything) > 0 && svc.code != "." && !allowsOnly(known.Ignore) {
			svc.missing("every change runs it: line %s of %s copies the whole repository%s; copy what it needs, or say what it is made of with trigger.paths in slipway.yaml", everything[0], file, svc.doubt)
		}
	}
}

func stated(settings []Setting, key string) bool {
	return slices.ContainsFunc(settings, func(x Setting) bool { return x.Key == key })
}

// platformArgs are build arguments with those that a build for Linux has by itself.
func platformArgs(args map[string]string) map[string]string {
	all := map[string]string{"TARGETOS": "linux", "TARGETARCH": "amd64", "TARGETPLATFORM": "linux/amd64", "TARGETVARIANT": "", "BUILDOS": "linux", "BUILDARCH": "amd64", "BUILDPLATFORM": "linux/amd64"}
	for name, value := range args {
		all[name] = value
	}
	return all
}
