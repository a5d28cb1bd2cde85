package slipway

import (
	"strings"
	"time"
)

// Service is a folder with a Dockerfile, built, tested and deployed on its own. What stands in
// slipway.yaml overrides what was discovered.
type Service struct {
	Name       string            `json:"name"`
	Codebase   string            `json:"codebase,omitempty"` // name of the one that it is in; "": the main one
	Dir        string            `json:"dir"`                // slash-separated, relative to the repository, no leading slash; "." is the root
	Dockerfile string            `json:"dockerfile"`         // relative to Dir
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
	Test       *ServiceTest      `json:"test,omitempty"`  // nil: the Dockerfile has no test stage
	Chart      string            `json:"chart,omitempty"` // folder relative to the repository; empty: the standard chart
	Port       int               `json:"port,omitempty"`  // from the single EXPOSE; 0: none or several
	// DependsOn are the services whose code is part of this one: a change of their code is one of
	// it, and it is deployed after them.
	DependsOn []string `json:"dependsOn,omitempty"`
	// After are services that it is deployed after, and that are no part of it.
	After []string `json:"after,omitempty"`
	// Elsewhere are those of DependsOn and After that are no services of this codebase.
	Elsewhere []Elsewhere `json:"elsewhere,omitempty"`
	// Context is the build context, relative to the repository; empty: Dir.
	Context string `json:"context,omitempty"`
	// Shared are folders and files outside of Dir that dependsOn names.
	Shared []string `json:"shared,omitempty"`
	// Copies is what the Dockerfile takes from outside of Dir, from charts, or from the folders of other services in Dir.
	Copies []Copy `json:"copies,omitempty"`
	// Ignore is what the build does not see of its context; nil: it sees all.
	Ignore *Ignore `json:"ignore,omitempty"`
	// Pins are those of the configuration that its Dockerfile uses.
	Pins     map[string]string `json:"pins,omitempty"`
	Trigger  ServiceTrigger    `json:"trigger,omitzero"`
	Rollback RollbackMode      `json:"rollback"`
	Verify   ServiceVerify     `json:"verify"`
	Scan     ServiceScan       `json:"scan,omitzero"`

	// DockerfileSum is a checksum of the Dockerfile's text, by which a folder with another name is known again.
	DockerfileSum string `json:"-"`
}

// BuildContext is the folder that a build of the service sees, and its Dockerfile relative to that.
func (s Service) BuildContext() (dir, dockerfile string) {
	if s.Context == "" || s.Context == s.Dir {
		return s.Dir, s.Dockerfile
	}
	file := join(s.Dir, s.Dockerfile)
	if s.Dir == "." {
		file = s.Dockerfile
	}
	if s.Context == "." {
		return s.Context, file
	}
	return s.Context, strings.TrimPrefix(file, s.Context+"/")
}

// Elsewhere is a service of another codebase that slipway.yaml names.
type Elsewhere struct {
	Service string `json:"service"`
	Line    int    `json:"line"` // of slipway.yaml
	// Copied: the Dockerfile takes files from it, by its name: COPY --from=<service>.
	Copied bool `json:"copied,omitempty"`
}

// Copy is something that a Dockerfile takes from its build context.
type Copy struct {
	Path string `json:"path"` // a pattern relative to the repository: * and ? stand for what is in one folder
	Line int    `json:"line"` // of the Dockerfile; 0 for its .dockerignore
}

// Ignore is the ignore file of a build context.
type Ignore struct {
	File     string   `json:"file"`     // relative to the repository
	Patterns []string `json:"patterns"` // relative to the build context; a later one decides over an earlier
}

// Filter is what counts: what fits one of Include and none of Exclude.
type Filter struct {
	Include []string `json:"include,omitempty"` // empty: everything, unless said otherwise
	Exclude []string `json:"exclude,omitempty"`
}

// ServiceTrigger says which pushes run a service (D6). Its zero value is every branch, no tag, and the
// files that the service is made of.
type ServiceTrigger struct {
	// Batch gathers what is pushed while a run is active into one next run (S38).
	Batch    bool   `json:"batch,omitempty"`
	Branches Filter `json:"branches,omitzero"`
	Tags     Filter `json:"tags,omitzero"`  // an empty Include is no tag
	Paths    Filter `json:"paths,omitzero"` // Include stands in place of the service's folder and of Copies
}

// ServiceTest says how the service's tests run (S76 to S78, D22).
type ServiceTest struct {
	Stage   string        `json:"stage"`   // Dockerfile stage whose entrypoint runs the tests
	Results string        `json:"results"` // folder of result files, relative to WORKDIR unless absolute
	Timeout time.Duration `json:"timeout"`
	// Services are containers that run beside the tests (S80).
	Services []TestService `json:"services,omitempty"`
}

// TestService is a container that tests need beside them: a database, a mock of another service (S80).
type TestService struct {
	Name    string            `json:"name"`  // the host name under which the tests reach it
	Image   string            `json:"image"` // reference, pinned by Pins where they name it
	Env     map[string]string `json:"env,omitempty"`
	Command []string          `json:"command,omitempty"` // in place of the image's
	Ports   []int             `json:"ports,omitempty"`   // TCP; the tests start when all accept connections
	// Health is a command run in the container until it succeeds; empty: the ports decide.
	Health  []string `json:"health,omitempty"`
	Timeout Duration `json:"timeout,omitempty"` // until it is healthy
}

// ServiceVerify says when a deployment counts as healthy.
type ServiceVerify struct {
	Timeout time.Duration `json:"timeout"`
	Tests   bool          `json:"tests"` // run the chart's tests (helm test)
}

// ServiceScan says where the evidence of a scan comes from.
type ServiceScan struct {
	// Reports are files of other scanners (SARIF, CycloneDX) in the tree or the results of the tests: evidence
	// in place of Slipway's own scan. Empty: Slipway scans.
	Reports []string `json:"reports,omitempty"`
}

// RollbackMode says what follows a failed verification.
type RollbackMode string

const (
	RollbackAutomatic RollbackMode = "automatic"
	RollbackManual    RollbackMode = "manual"
)

// Environment is where releases run: a namespace of a registered cluster.
type Environment struct {
	Name      string   `json:"name"`
	Trigger   Trigger  `json:"trigger"`
	Cluster   string   `json:"cluster"`   // name of a registered cluster (D19)
	Namespace string   `json:"namespace"` // <project>-<environment> unless configured
	Values    []string `json:"values,omitempty"`
	// Production environments pull from the production namespace of the registry: the image and the
	// chart are retagged before they are deployed there (D2, S64).
	Production bool      `json:"production,omitempty"`
	Approvals  Approvals `json:"approvals"`
	Timeout    Duration  `json:"timeout"`    // for the workloads to become ready
	HistoryMax int       `json:"historyMax"` // Helm revisions kept (S98)
	// Gates are the project's with what the environment says otherwise.
	Gates Gates `json:"gates,omitzero"`
}

// ForeignNamespace is the error of an environment whose namespace another project of the server deploys to.
func ForeignNamespace(environment, namespace, cluster, owner string) error {
	return Errorf(Conflict, "environment %s: namespace %s of cluster %s is where project %s deploys; give the environment another with environments[].namespace in slipway.yaml", environment, namespace, cluster, owner)
}

// Trigger says which event's artifacts an environment takes.
type Trigger string

const (
	OnDefaultBranch Trigger = "default-branch" // every merge (S53, S54)
	OnRelease       Trigger = "release"        // release branches, in the order of the environments
)

// Approvals is what must be agreed before a deployment.
type Approvals struct {
	Required     int  `json:"required"`     // 0: automatic (S10)
	NotRequester bool `json:"notRequester"` // who started the run may not approve it
}

// Duration is a time.Duration that reads and writes as text ("5m") in JSON and YAML.
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// EmbeddedRegistry is the stable host name of the registry that a server has of its own, unless it is told another (D18).
const EmbeddedRegistry = "registry.slipway.internal"

// Registry is an OCI registry as the plan names it.
type Registry struct {
	// Host is the stable name in every reference (D18); Address is where Slipway itself reaches it:
	// a URL, http only for loopback. Empty Address: https at Host.
	Host    string `json:"host"`
	Address string `json:"address,omitempty"`
	// Prefix is put before <project>/<service>: "" for candidates, "prod" for production (D16).
	Prefix string `json:"prefix,omitempty"`
}

// Image is the repository of a service's image without the host: [prefix/]project/service.
func (r Registry) Image(project, service string) string { return join(r.Prefix, project, service) }

// Chart is the repository of a service's chart without the host: [prefix/]project/charts/service.
func (r Registry) Chart(project, service string) string {
	return join(r.Prefix, project, "charts", service)
}

// Recorded is the repository of a reference that was recorded without tag and digest. It is reached as r is where its host
// is that of r.
func (r Registry) Recorded(ref string) Repository {
	host, name, _ := strings.Cut(ref, "/")
	if host != r.Host {
		r = Registry{Host: host}
	}
	r.Prefix = ""
	return Repository{Registry: r, Name: name}
}

func join(parts ...string) string {
	out := ""
	for _, p := range parts {
		if p == "" {
			continue
		}
		if out != "" {
			out += "/"
		}
		out += p
	}
	return out
}

// Config is what slipway.yaml and discovery say together: complete, valid, defaults filled in.
type Config struct {
	Services     []Service         `json:"services"`
	Environments []Environment     `json:"environments"` // in the order of promotion
	Candidates   Registry          `json:"candidates"`
	Production   Registry          `json:"production"`
	Pins         map[string]string `json:"pins,omitempty"` // base image reference -> digest
	// Shared says what the shared folders are made of besides themselves: folder -> folders or files.
	Shared       map[string][]string `json:"shared,omitempty"`
	PullRequests PullRequestPolicy   `json:"pullRequests"`
	Limits       Limits              `json:"limits"`
	Gates        Gates               `json:"gates,omitzero"`
	Retention    Retention           `json:"retention,omitzero"`
}

// PullRequestPolicy says when a pull request may be merged (S29).
type PullRequestPolicy struct {
	Approvals int `json:"approvals"`
}

// Limits bound one run.
type Limits struct {
	BuildTimeout  Duration `json:"buildTimeout"`
	DeployTimeout Duration `json:"deployTimeout"`
	Retries       int      `json:"retries"` // further attempts after an error of the surroundings
}

// Service returns the service of that name.
func (c Config) Service(name string) (Service, bool) {
	for _, s := range c.Services {
		if s.Name == name {
			return s, true
		}
	}
	return Service{}, false
}

// Environment returns the environment of that name.
func (c Config) Environment(name string) (Environment, bool) {
	for _, e := range c.Environments {
		if e.Name == name {
			return e, true
		}
	}
	return Environment{}, false
}
