// Package config turns a repository into the nouns: its services by convention, and what slipway.yaml
// says instead. It reports every problem at once, each with its file, line and column and with what
// would be right, and makes the JSON Schema of slipway.yaml from the same description of keys.
//
// It reads a tree of files and nothing else: it fetches no commit, asks no cluster and no registry,
// and interprets no variables, so that what stands in the file is what holds.
package config

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// Options are what a configuration is read with. The zero value reads and checks the file alone.
type Options struct {
	Project string // name of the project: namespaces are made of it, and a service at the root has it
	// Candidates and Production are the registries of the server, for what the file does not say.
	// The zero value of Production has the prefix prod.
	Candidates slipway.Registry
	Production slipway.Registry
	Clusters   []string // names of the registered clusters; empty: not checked
	// Now tells whether a waiver has expired; nil: the clock.
	Now func() time.Time
	// Several: the project has further codebases, so that dependsOn and after may name services that this
	// tree does not have. They are in Service.Elsewhere, for the caller to check.
	Several bool
	// Further is the name of the further codebase that the tree is of, "" for the main one. A service at
	// its root has that name, and slipway.yaml holds nothing but how services are built, tested, charted
	// and triggered. Pins are then those of the main codebase.
	Further string
	Pins    map[string]string
}

// Offline are the options where no server is asked: codebase says of which codebase of a project with several the
// tree is, main for the main one, and is "" for a project with one.
func Offline(project, codebase string) Options {
	o := Options{Project: project, Candidates: slipway.Registry{Host: slipway.EmbeddedRegistry}, Several: codebase != ""}
	if codebase != slipway.MainCodebase {
		o.Further = codebase
	}
	return o
}

func (o Options) filled() Options {
	if o.Production == (slipway.Registry{}) {
		o.Production = o.Candidates
		o.Production.Prefix = "prod"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Load reads the whole configuration from the tree of one commit: services, and everything else. A
// tree without slipway.yaml is one that keeps to the conventions. With problems, the Config holds
// what was right and must not be used.
func Load(fsys fs.FS, opts Options) (slipway.Config, Problems) {
	opts = opts.filled()
	f, problems := open(fsys)
	own, more := servicesOf(fsys, f, opts)
	for _, p := range more {
		problems.add(p)
	}
	if opts.Further != "" {
		return own, problems.sorted()
	}
	c := policy(f, opts, &problems)
	c.Services, c.Pins, c.Shared = own.Services, own.Pins, own.Shared
	checkTimes(f, opts.Now(), true, &problems)
	return c, problems.sorted()
}

// LoadServices reads what a run's own commit decides (D14): how its services are built, tested and
// charted. Everything else of the Config is zero; problems with it are not reported, as the default
// branch's copy of it governs.
func LoadServices(fsys fs.FS, opts Options) (slipway.Config, Problems) {
	f, problems := open(fsys)
	problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.class == structure && !ownKey(p.Path) })
	own, more := servicesOf(fsys, f, opts.filled())
	for _, p := range more {
		problems.add(p)
	}
	return own, problems.sorted()
}

// LoadPolicy reads what the default branch decides (D14): environments, registries, approvals, limits, gates
// and retention, and per service what follows a deployment and what counts as its scan. Services are not
// searched for: the Config has only those that slipway.yaml names, with Name, Rollback, Verify and Scan.
// A waiver that has expired is no problem here, as it would stop every run overnight: it does not hold.
func LoadPolicy(fsys fs.FS, opts Options) (slipway.Config, Problems) {
	f, problems := open(fsys)
	opts = opts.filled()
	c := policy(f, opts, &problems)
	checkTimes(f, opts.Now(), false, &problems)
	services := f.root.get("services")
	for i, k := range services.keys {
		s := services.items[i]
		if s.isFalse() {
			continue
		}
		c.Services = append(c.Services, slipway.Service{
			Name:     k.Value,
			Rollback: slipway.RollbackMode(s.get("rollback").text(string(slipway.RollbackAutomatic))),
			Verify: slipway.ServiceVerify{
				Timeout: s.get("verify").get("timeout").duration(0, &problems),
				Tests:   s.get("verify").get("tests").boolean(true),
			},
			Scan: scanOf(s),
		})
	}
	return c, problems.sorted()
}

// Combine is the configuration of a run (D14): the services, shared folders and pins of its own commit, and
// everything else of the default branch's: environments, registries, approvals, limits, gates, retention, and
// of each service what follows its deployment and what counts as its scan.
func Combine(own, policy slipway.Config) slipway.Config {
	c := policy
	c.Pins, c.Shared = own.Pins, own.Shared
	c.Services = slices.Clone(own.Services)
	governed := make(map[string]*slipway.Service, len(policy.Services))
	for i := range policy.Services {
		governed[policy.Services[i].Name] = &policy.Services[i]
	}
	for i := range c.Services {
		s := &c.Services[i]
		s.Rollback, s.Verify, s.Scan = slipway.RollbackAutomatic, slipway.ServiceVerify{Tests: true}, slipway.ServiceScan{}
		if p := governed[s.Name]; p != nil {
			s.Rollback, s.Verify, s.Scan = p.Rollback, p.Verify, p.Scan
		}
	}
	return c
}

// ownKey reports whether a key of slipway.yaml is the run's own commit's to decide.
func ownKey(path string) bool {
	for _, other := range []string{"environments", "registry", "pullRequests", "limits", "gates", "retention"} {
		if path == other || (len(path) > len(other) && path[:len(other)] == other && (path[len(other)] == '.' || path[len(other)] == '[')) {
			return false
		}
	}
	return true
}

// mainOnly refuses what only the main codebase decides about.
func (d *draft) mainOnly(f File) {
	for _, k := range f.root.keys {
		switch k.Value {
		case "version", "services", "shared":
			continue
		}
		d.problems.add(Problem{File: f.name, Line: k.Line, Column: k.Column, Path: k.Value,
			Message: "this is for the project as a whole",
			Hint:    "it belongs in slipway.yaml of the main codebase: a further one says only how its own services are built, tested, charted and triggered"})
	}
}

// open reads slipway.yaml from the tree; none is an empty one.
func open(fsys fs.FS) (File, Problems) {
	data, err := read(fsys, Name, maxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		if ok, _ := exists(fsys, "slipway.yml", false); ok {
			return File{name: Name}, Problems{{File: "slipway.yml", Message: "this file is not read", Hint: "rename it to " + Name}}
		}
		return File{name: Name}, nil
	}
	if err != nil {
		return File{name: Name}, Problems{{File: Name, Message: because(err), class: syntax}}
	}
	return Parse(Name, data)
}

// servicesOf reads what a commit decides for itself.
func servicesOf(fsys fs.FS, f File, opts Options) (slipway.Config, Problems) {
	d := &draft{fsys: fsys, project: opts.Project, pins: f.root.get("pins").table(), several: opts.Several || opts.Further != ""}
	if opts.Further != "" {
		d.project, d.pins = opts.Further, opts.Pins
		d.mainOnly(f)
	}
	d.discover()
	d.override(f.root.get("services"))
	d.sameNames()
	shared := d.sharedFolders(f.root.get("shared"))
	services, problems := d.finish()
	return slipway.Config{Services: services, Pins: d.pins, Shared: shared}, problems
}
