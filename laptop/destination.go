package laptop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/driver/kube"
	"github.com/slipway-cd/slipway/repos"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/promote"
	"github.com/slipway-cd/slipway/worktree"
)

// Goal is where a run on the laptop is to deploy to, as a person says it.
type Goal struct {
	Environment string
	Kubeconfig  string // file
	Context     string // in it
	Registry    string // HOST[/PREFIX][=URL]; "" for the one in slipway.yaml
}

// Destination is where a run on the laptop deploys to, and under which version.
type Destination struct {
	Environment string `json:"environment"`
	Context     string `json:"context"`
	Server      string `json:"server"` // of the cluster's API
	Namespace   string `json:"namespace"`
	Registry    string `json:"registry"`
	Version     string `json:"version"`

	environment  slipway.Environment
	limits       slipway.Limits
	registry     slipway.Registry
	chartVersion string
	kubeconfig   []byte
}

// Destination finds out where a goal is, and asks the cluster whether it answers. found is what the codebase here
// says; the main one governs, and its default branch may say more strictly who may deploy there.
func (x Checkouts) Destination(ctx context.Context, found slipway.Config, o Goal, now time.Time) (*Destination, error) {
	main, governs := x.by(x.here.codebase.Project), found
	switch {
	case x.lone != "" && x.lone != slipway.MainCodebase:
		return nil, slipway.Errorf(slipway.Invalid, "--deploy %s: the main codebase says where that is: say where it is checked out with --codebase main=PATH", o.Environment)
	case x.here.codebase.Name != "":
		var err error
		if governs, err = says(ctx, x.Repo(main.codebase.Key()), main.w.Commit, x.here.codebase.Project); err != nil {
			return nil, fmt.Errorf("read the main codebase: %w", err)
		}
	}
	w := x.here.w
	env, ok := governs.Environment(o.Environment)
	if !ok {
		var names []string
		for _, e := range governs.Environments {
			names = append(names, e.Name)
		}
		return nil, slipway.Errorf(slipway.Invalid, "--deploy %s: there is no such environment; there are: %s", o.Environment, cmp.Or(strings.Join(names, ", "), "none"))
	}
	for _, e := range append(defaultBranchSays(ctx, main.w, o.Environment), env) {
		if err := laptopMay(e); err != nil {
			return nil, err
		}
	}
	registry, err := laptopRegistry(o.Registry, governs)
	if err != nil {
		return nil, err
	}
	to := &Destination{
		Environment: env.Name, Context: o.Context, Namespace: env.Namespace, environment: env, limits: governs.Limits, registry: registry,
		Registry: strings.TrimSuffix(registry.Host+"/"+registry.Prefix, "/"),
		Version:  fmt.Sprintf("laptop-%s-%s", now.UTC().Format("20060102150405"), slipway.ShortHash(w.Commit)), chartVersion: plan.ChartVersion("laptop", now, w.Commit),
	}
	to.environment.Cluster = o.Context
	if to.kubeconfig, to.Server, err = kube.LocalConfig(o.Kubeconfig, o.Context); err != nil {
		return nil, err
	}
	return to, to.answers(ctx)
}

const answerTimeout = 20 * time.Second

// answers reports whether the cluster is there and takes the credentials, before anything is built for it.
func (to *Destination) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, slipway.ErrTimeout)
	defer cancel()
	_, err := kube.New(kube.OneCluster(to.kubeconfig)).Check(ctx, to.Context)
	switch {
	case slipway.ErrorCode(err) == slipway.Unauthorized:
		return slipway.Errorf(slipway.Invalid, "the cluster at %s does not accept the credentials of context %s", to.Server, to.Context)
	case err != nil:
		return surroundings{fmt.Errorf("ask the cluster of context %s (%s): %w", to.Context, to.Server, err)}
	}
	return nil
}

// laptopMay refuses environments that only a server deploys to: those that people or signatures guard.
func laptopMay(e slipway.Environment) error {
	why := ""
	switch {
	case e.Production:
		why = "is production"
	case e.Approvals.Required > 0:
		why = "needs " + slipway.Counted(e.Approvals.Required, "approval")
	case e.Gates.Signatures.Level == slipway.LevelFail:
		why = "takes only what a server has signed"
	default:
		return nil
	}
	instead := "push a branch release/<service>/<version>, and its run on the server deploys there"
	if e.Trigger == slipway.OnDefaultBranch {
		instead = "merge into the default branch, and its run on the server deploys there"
	}
	return slipway.Errorf(slipway.Invalid, "--deploy %s: the environment %s, so nothing is deployed there from a laptop; %s", e.Name, why, instead)
}

// defaultBranchSays is the environment as the default branch has it: who takes a guard away has to have that
// merged first (D14). What cannot be read there says nothing.
func defaultBranchSays(ctx context.Context, w worktree.Tree, environment string) []slipway.Environment {
	_, tip := w.Upstream(ctx)
	if tip == "" {
		return nil
	}
	c, err := says(ctx, repos.Of(git.Whole{Repo: w.Repo}), tip, "project")
	if err != nil {
		return nil
	}
	if e, ok := c.Environment(environment); ok {
		return []slipway.Environment{e}
	}
	return nil
}

// says is what a commit of the main codebase says of environments and registries.
func says(ctx context.Context, r repos.Repo, commit, project string) (slipway.Config, error) {
	files, err := r.Tree(ctx, commit)
	if err != nil {
		return slipway.Config{}, err
	}
	c, _ := config.LoadPolicy(files, config.Offline(project, ""))
	return c, files.Close()
}

var laptopRegistryExpr = regexp.MustCompile(`^([a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?)((?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)$`)

// laptopRegistry reads HOST[/PREFIX][=URL]; without one it is where slipway.yaml has candidates.
func laptopRegistry(given string, governs slipway.Config) (slipway.Registry, error) {
	if given == "" {
		if governs.Candidates.Host == slipway.EmbeddedRegistry {
			return slipway.Registry{}, slipway.Errorf(slipway.Invalid, "say with --registry HOST[/PREFIX] where the image goes: a registry that you may push to and the cluster pulls from")
		}
		return governs.Candidates, nil
	}
	name, address, _ := strings.Cut(given, "=")
	m := laptopRegistryExpr.FindStringSubmatch(name)
	if m == nil || !strings.ContainsAny(m[1], ".:") && m[1] != "localhost" {
		return slipway.Registry{}, slipway.Errorf(slipway.Invalid, "--registry %q: expected HOST[/PREFIX] or HOST[/PREFIX]=URL, such as registry.example.com/team", given)
	}
	if address == "" && onThisMachine(m[1]) {
		address = "http://" + m[1]
	}
	return slipway.Registry{Host: m[1], Prefix: strings.TrimPrefix(m[2], "/"), Address: strings.TrimSuffix(address, "/")}, nil
}

func onThisMachine(host string) bool {
	name, _, _ := strings.Cut(host, ":")
	return name == "localhost" || strings.HasPrefix(name, "127.")
}

// deliver adds to the plan what brings the services that run to the destination: image and chart get their
// names, Helm deploys, and what came of it is verified, once everything else has succeeded. The services are
// those of the configuration.
func (p *Plan) deliver(to *Destination, c slipway.Config) error {
	var local []string
	for i := range p.Steps {
		s := &p.Steps[i]
		local = append(local, s.Key)
		if s.Chart != nil {
			spec := *s.Chart
			spec.Version, spec.Image = to.chartVersion, to.image(p.Run.Project, s.Service)
			s.Chart = &spec
		}
	}
	c.Candidates, c.Production, c.Limits = to.registry, to.registry, to.limits
	var candidates []promote.Candidate
	for _, d := range p.Decisions {
		svc, ok := c.Service(d.Service)
		if !d.Runs || !ok {
			continue
		}
		s := p.publish(to, svc.Name, local)
		p.Steps = append(p.Steps, s)
		candidates = append(candidates, promote.Candidate{Service: svc, Version: to.Version, Tag: to.Version, ChartVersion: to.chartVersion, Commit: p.Run.Commit, Needs: []string{s.Key}})
	}
	run := p.Run
	run.ID = 0
	way, err := promote.Plan(promote.Input{Project: slipway.Project{Name: p.Run.Project}, Run: run, Config: c}, candidates, []slipway.Environment{to.environment})
	if err != nil {
		return err
	}
	p.Steps = append(p.Steps, withoutGates(way.Steps)...)
	p.To = to
	return nil
}

// PushesTo is the registry that images go to.
func (to *Destination) PushesTo() slipway.Registry { return to.registry }

func (to *Destination) image(project, service string) slipway.Repository {
	return slipway.Repository{Registry: to.registry, Name: to.registry.Image(project, service)}
}

func (p *Plan) publish(to *Destination, service string, needs []string) slipway.PlanStep {
	return slipway.PlanStep{
		Key: slipway.StepKey(slipway.KindPublish, service, ""), Kind: slipway.KindPublish, Service: service, Needs: needs, Timeout: publishTimeout,
		Publish: &slipway.PublishSpec{
			Image: to.image(p.Run.Project, service), Tag: to.Version, Trust: slipway.TrustBranch, Commit: p.Run.Commit,
			Chart: slipway.Repository{Registry: to.registry, Name: to.registry.Chart(p.Run.Project, service)}, ChartVersion: to.chartVersion,
		},
	}
}

const publishTimeout = slipway.Duration(15 * time.Minute)

// withoutGates leaves out what judges evidence that only a server has. What needs it needs what it needed.
func withoutGates(steps []slipway.PlanStep) []slipway.PlanStep {
	through := map[string][]string{}
	for _, s := range steps {
		if s.Kind == slipway.KindGate {
			through[s.Key] = s.Needs
		}
	}
	var kept []slipway.PlanStep
	for _, s := range steps {
		if s.Kind == slipway.KindGate {
			continue
		}
		var needs []string
		for _, key := range s.Needs {
			if before, gate := through[key]; gate {
				needs = append(needs, before...)
				continue
			}
			needs = append(needs, key)
		}
		s.Needs = slices.Compact(needs)
		if s.Deploy != nil {
			spec := *s.Deploy
			spec.Reason = fmt.Sprintf("%s %s from the working tree of %s", s.Service, spec.Version, person())
			s.Deploy = &spec
		}
		kept = append(kept, s)
	}
	return kept
}

// person is who runs this process.
func person() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "somebody"
	}
	return slipway.CleanLine(u.Username, 60)
}

// surroundings is an error that is not about the services that are run.
type surroundings struct{ error }

// Surroundings makes an error of the surroundings, whatever its code: it answers ExitStatus() 2. Who cancelled did not
// meet one.
func Surroundings(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return surroundings{err}
}

// Unwrap returns the error.
func (s surroundings) Unwrap() error { return s.error }

// ExitStatus is that of a command whose surroundings did not work.
func (surroundings) ExitStatus() int { return 2 }
