// Package plan compiles an event, the configuration and what changed into a Plan: which services are
// built, tested, charted and published, and why the others are not. It is pure: the same input gives
// the same plan, and nothing is read from or written to the world.
//
// It stops at the artifacts. Where they are deployed is stage/promote's to say, which extends the
// plan that this package makes.
package plan

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// Epoch is the SOURCE_DATE_EPOCH of every build, in Unix seconds: 1980-01-01T00:00:00Z, the earliest
// time that a zip archive can hold. It is a constant, so that the image is a function of the
// service's inputs and of nothing else (D15); the commit's own time is in the label created.
const Epoch = 315532800

// Input is all that a plan follows from.
type Input struct {
	// Project has the default branch and the git URL of the codebase that the run is of.
	Project slipway.Project
	Run     slipway.Run
	// Source says what services are built from, but for the folder; zero: the run's codebase and commit.
	Source slipway.Source
	// Config holds the services of the run's commit and everything else of the default branch's
	// (D14), as config.Combine makes it; ConfigCommit is that commit of the default branch.
	Config       slipway.Config
	ConfigCommit string
	// DefaultTip is where the default branch of the run's codebase is; "" when it does not exist yet.
	DefaultTip string
	// Others are the further codebases of the project, and the main one where the run is of another.
	Others []Other
	// Changes says, by service, what the run's commit changed. A service without an entry counts
	// as unchanged.
	Changes map[string]Change
	// Removed are the services that are no longer there, and Since the commits that were compared with,
	// for people.
	Removed    []slipway.Service
	Since      []string
	Turn       int64     // of what the branch was done with before
	CommitTime time.Time // of the run's commit
	SourceURL  string    // where people find the repository, without a password; may be empty
	// Reviewed says that the run's commit is part of the default branch: only then may a release read
	// and write the caches of reviewed code (D20).
	Reviewed bool
	// Claimed is the version of a release run when it is published already, nil when it is free.
	Claimed *Claim
}

// Change says what happened to one service, by comparing trees (D4). Affected makes it, but for the
// revisions and Built.
type Change struct {
	Changed bool
	Files   int    // changed files of the service
	Total   int    // changed files in all
	Example string // one of Files
	// Why, when set, is the reason in place of the one that follows from the counts: for a branch
	// that is built for the first time, for example. It continues the words "runs:" or "skipped,".
	Why string
	// Since is the commit that it was compared with, when that is not the one that the run is compared with
	// first.
	Since string
	// Waiting says that an earlier run waits for people with it, and is therefore not done with it; "" when none does.
	Waiting string
	// Was is the service that it was until its folder got another name, which is removed; "" when it was none.
	Was string
	// Left is the run that waits for people with the same of it, to which it is left; 0: to none.
	Left int64
	// Unchanged: it is as it was where it was built before, whatever its trigger says of the run.
	Unchanged bool
	// Because are the services of the run that make it run by way of another codebase.
	Because []string
	// ChartOnly: it runs, and no image of its code has to be built (S23).
	ChartOnly bool
	// Built is the image that was published of this code before; nil when there is none.
	Built        *slipway.BuiltImage
	Revision     string    // the newest commit that touched the service's code
	RevisionTime time.Time // its commit time
	// ChartRevision is the newest commit that touched code or chart; "" is Revision.
	ChartRevision     string
	ChartRevisionTime time.Time
}

// Claim is a version that is published: its image tag exists (D1).
type Claim struct {
	Version string // the leaf as written then
	Commit  string
	Digest  string // of the image
	RunID   int64  // the run that published it, 0 if not known
}

// Plan makes the plan of a run that an event started. The errors it returns are the person's to mend
// (Invalid, NotFound, Conflict); a run for which there is nothing to do is a plan without steps whose
// decisions say why.
func Plan(in Input) (slipway.Plan, error) {
	p := slipway.Plan{Steps: []slipway.PlanStep{}, ConfigCommit: in.ConfigCommit, Since: in.Since, Gates: gates(in.Config), Turn: in.Turn}
	if in.Run.Commit == "" {
		return p, slipway.Errorf(slipway.Invalid, "run %d names no commit: nothing can be planned for it", in.Run.ID)
	}
	switch in.Run.Event {
	case slipway.ReleasePush:
		return planRelease(in, p)
	case slipway.BranchPush, slipway.PullUpdate, slipway.DefaultPush:
		return planChanged(in, p), nil
	}
	return p, slipway.Errorf(slipway.Invalid, "event %q of run %d has no plan: expected push, pull-request, merge or release", in.Run.Event, in.Run.ID)
}

// gates is what the gates of a configuration demand, by environment.
func gates(c slipway.Config) map[string]slipway.Gates {
	out := map[string]slipway.Gates{"": c.Gates}
	for _, e := range c.Environments {
		out[e.Name] = e.Gates
	}
	return out
}

// planChanged runs every changed service.
func planChanged(in Input, p slipway.Plan) slipway.Plan {
	if len(in.Config.Services) == 0 && len(in.Removed) == 0 {
		p.Decisions = []slipway.Decision{{Reason: "nothing to build: the repository has no service, that is no folder with a Dockerfile"}}
		return p
	}
	for _, svc := range in.Config.Services {
		change, n := in.Changes[svc.Name], name(in)
		d := slipway.Decision{Service: svc.Name, Runs: change.Changed, Reason: reason(svc, change), Unchanged: change.Unchanged && !change.Changed, LeftTo: change.Left}
		if change.Since != "" {
			d.Reason += "; compared with " + slipway.ShortHash(change.Since) + ", as no run has succeeded with it since"
		}
		if change.Changed && change.Waiting != "" {
			d.Reason += "; " + change.Waiting
		}
		p = because(p, svc.Name, change)
		p.Batch = p.Batch || (d.Runs && gathers(in.Run, svc))
		switch {
		case !change.Changed:
		case change.ChartOnly && n.publish && change.Built == nil:
			d.Reason += "; an image is built too, as none of this code was published before"
			p.Steps = append(p.Steps, steps(in, svc, n)...)
		case change.ChartOnly:
			d.ChartOnly = true
			d.Reason += "; no image is built"
			p.Steps = append(p.Steps, chartSteps(in, svc, n)...)
		default:
			p.Steps = append(p.Steps, steps(in, svc, n)...)
		}
		p.Decisions = append(p.Decisions, d)
	}
	if in.Run.Event == slipway.DefaultPush {
		p = planOthers(in, p)
	} else {
		noteOthers(in, p)
	}
	for _, svc := range in.Removed {
		p.Decisions = append(p.Decisions, slipway.Decision{Service: svc.Name, Removed: true, Reason: goneReason(in, svc)})
	}
	return p
}

// because notes in a plan what makes a service run by way of another codebase.
func because(p slipway.Plan, service string, c Change) slipway.Plan {
	if len(c.Because) == 0 || !c.Changed {
		return p
	}
	if p.Because == nil {
		p.Because = map[string][]string{}
	}
	p.Because[service] = c.Because
	return p
}

// gathers reports whether pushes like the run's are gathered for a service while a run is active: those to a
// branch, as its trigger says (S38). Pull requests and releases supersede instead, and a tag is pushed once.
func gathers(r slipway.Run, s slipway.Service) bool {
	branch := r.Event == slipway.BranchPush || r.Event == slipway.DefaultPush
	return s.Trigger.Batch && branch && strings.HasPrefix(r.Ref, "refs/heads/")
}

// goneReason says what became of a service that is no longer there. Nothing is undeployed by itself.
func goneReason(in Input, svc slipway.Service) string {
	why := "removed: the configuration has no such service any more"
	if svc.Dir != "." {
		why = fmt.Sprintf("removed: there is no such service at %s any more", folderName(svc.Dir))
	}
	for _, other := range in.Config.Services {
		switch {
		case clean(other.Dir) != clean(svc.Dir):
		case samePlace(other, svc):
			why = fmt.Sprintf("removed: what is built from %s is %s now", folderName(svc.Dir), other.Name)
		default:
			why = fmt.Sprintf("removed: %s takes its place at %s, as slipway.yaml names %s and not %s there", other.Name, folderName(svc.Dir), other.Name, svc.Name)
		}
	}
	for _, other := range in.Config.Services {
		if in.Changes[other.Name].Was == svc.Name {
			why = fmt.Sprintf("removed: it is %s now, which has its Dockerfile in %s", other.Name, folderName(other.Dir))
		}
	}
	if in.Run.Event != slipway.DefaultPush {
		return why
	}
	return fmt.Sprintf("%s; what is deployed of it stays until a person removes it (helm uninstall %s, in its namespace)", why, svc.Name)
}

// planRelease runs the service that the release branch names, whatever changed (D1).
func planRelease(in Input, p slipway.Plan) (slipway.Plan, error) {
	branch, ok, err := slipway.ParseReleaseRef(in.Run.Ref)
	if err != nil {
		return p, err
	}
	if !ok {
		return p, slipway.Errorf(slipway.Invalid, "ref %q of run %d is not a release branch: expected refs/heads/release/<service>/<version>", in.Run.Ref, in.Run.ID)
	}
	svc, ok := in.Config.Service(branch.Service)
	if !ok {
		return p, unknownService(branch, in)
	}
	if err := checkClaim(branch, in); err != nil {
		return p, err
	}
	for _, other := range in.Config.Services {
		d := slipway.Decision{Service: other.Name, Reason: fmt.Sprintf("skipped, this release branch is for %s", svc.Name)}
		if other.Name == svc.Name {
			d.Runs = true
			d.Reason = fmt.Sprintf("runs: the branch release/%s/%s asks for version %s, whatever files changed", svc.Name, branch.Version.Leaf, branch.Version.Leaf)
		}
		p.Decisions = append(p.Decisions, d)
	}
	trust := slipway.TrustBranch
	if in.Reviewed {
		trust = slipway.TrustReviewed
	}
	p.Steps = append(p.Steps, steps(in, svc, naming{
		tag: branch.Version.Leaf, chart: branch.Version.SemVer(), kept: true, publish: true, release: true, trust: trust,
	})...)
	return p, nil
}

func unknownService(branch slipway.ReleaseBranch, in Input) error {
	if len(in.Config.Services) == 0 {
		return slipway.Errorf(slipway.NotFound, "release branch release/%s/%s: commit %s has no services, that is no folder with a Dockerfile",
			branch.Service, branch.Version.Leaf, slipway.ShortHash(in.Run.Commit))
	}
	known := ""
	for i, s := range in.Config.Services {
		if i > 0 {
			known += ", "
		}
		known += s.Name
	}
	return slipway.Errorf(slipway.NotFound, "release branch release/%s/%s: commit %s has no service %q; it has %s",
		branch.Service, branch.Version.Leaf, slipway.ShortHash(in.Run.Commit), branch.Service, known)
}

// checkClaim refuses a version that was published from another commit, or under another spelling.
func checkClaim(branch slipway.ReleaseBranch, in Input) error {
	c := in.Claimed
	if c == nil {
		return nil
	}
	by := ""
	if c.RunID != 0 {
		by = fmt.Sprintf(" by run %d", c.RunID)
	}
	if c.Commit != in.Run.Commit {
		return slipway.Errorf(slipway.Conflict,
			"version %s of %s exists already: it was published%s from commit %s (image %s), and this branch is at %s; a published version never changes, so create a branch for the next version",
			c.Version, branch.Service, by, slipway.ShortHash(c.Commit), cmp.Or(c.Digest, "without a digest"), slipway.ShortHash(in.Run.Commit))
	}
	if c.Version != branch.Version.Leaf {
		return slipway.Errorf(slipway.Conflict,
			"version %s of %s exists already as %s, published%s from the same commit: both spellings name one version; delete this branch and use release/%s/%s",
			branch.Version.Leaf, branch.Service, c.Version, by, branch.Service, c.Version)
	}
	return nil
}

// reason says in a sentence why a service runs or does not.
func reason(svc slipway.Service, c Change) string {
	switch {
	case c.Changed && c.Why != "":
		return "runs: " + c.Why
	case c.Changed:
		return "runs: " + ownFiles(svc, c.Files, c.Total, c.Example)
	case c.Why != "":
		return "skipped, " + c.Why
	case c.Total == 0:
		return "skipped, no file changed"
	}
	where := place(svc)
	if len(svc.DependsOn)+len(svc.Shared)+len(svc.Copies) > 0 || (svc.Chart != "" && !within(svc.Chart, svc.Dir)) {
		where += " or what it depends on"
	}
	if c.Total == 1 {
		return "skipped, the changed file is not under " + where
	}
	return fmt.Sprintf("skipped, none of the %d changed files is under %s", c.Total, where)
}

const maxShown = 120

// show makes a path of a repository, or the name of a ref, fit for a sentence: without control
// characters, and of bounded length.
func show(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }) {
		name = strconv.Quote(name)
	}
	if r := []rune(name); len(r) > maxShown {
		return string(r[:maxShown/2]) + "..." + string(r[len(r)-maxShown/2:])
	}
	return name
}
