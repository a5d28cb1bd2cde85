package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Deployed knows what runs where.
type Deployed interface {
	// InUse are the deployments that run now, of all projects.
	InUse(ctx context.Context) ([]slipway.Deployment, error)
	// SeenScan is the newest scan of a digest that people know of, with any database; false when there is none.
	SeenScan(ctx context.Context, project, digest string) (slipway.Scan, bool, error)
	// SawScan marks a scan as one that people know of.
	SawScan(ctx context.Context, project, digest, database, scanner string) error
}

// Found is what became known about an image that runs.
type Found struct {
	Project      string
	Service      string
	Version      string
	Image        string
	Digest       string
	Environments []string // in which it runs, sorted
	New          []slipway.Finding
	Scan         slipway.Scan
}

// Rescan scans what is deployed again when the database has changed.
type Rescan struct {
	Runner   Runner
	Deployed Deployed
	// Wanted says which deployments count, and where their image is; nil counts none.
	Wanted func(d slipway.Deployment) (slipway.Repository, bool)
	Log    stage.Log
	Dir    string // for the images while they are scanned
}

// Run scans each image once and calls found for those with new critical vulnerabilities: critical now, and
// not in the last scan that people saw; without one, all are new. When found returns nil, the scan counts as
// seen: after a crash in between it is told again, and never lost. An image that cannot be scanned does not keep
// the others from it; the errors are returned together. Without a database nothing is done.
func (r Rescan) Run(ctx context.Context, found func(Found) error) error {
	state, err := r.Runner.Scanner.State(ctx)
	if err != nil {
		return err
	}
	if state.Database.Missing != "" {
		return nil
	}
	groups, err := r.images(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		if err := r.one(ctx, g, state, found); err != nil {
			errs = append(errs, fmt.Errorf("rescan %s@%s: %w", g.Image, g.Digest, err))
		}
	}
	return errors.Join(errs...)
}

// Candidate is an image that waits to be deployed, and where it is.
type Candidate struct {
	Project    string
	Repository slipway.Repository
	Digest     string
}

// Waiting scans images that wait to be deployed when the database has changed, so that the gates before their deployment
// judge by what is known then. The scans are kept, as those that no run saw. One that cannot be scanned does not keep the others
// from it; the errors are returned together. Without a database nothing is done.
func (r Rescan) Waiting(ctx context.Context, list []Candidate) error {
	state, err := r.Runner.Scanner.State(ctx)
	if err != nil || state.Database.Missing != "" {
		return err
	}
	var errs []error
	for _, c := range list {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		if _, err := r.again(ctx, subject{project: c.Project, repo: c.Repository, digest: c.Digest}, state); err != nil {
			errs = append(errs, fmt.Errorf("scan %s@%s again, which waits: %w", c.Repository.Ref(), c.Digest, err))
		}
	}
	return errors.Join(errs...)
}

// again scans an image in a folder of its own. What was not looked at in full is an error.
func (r Rescan) again(ctx context.Context, s subject, state State) (slipway.Scan, error) {
	dir, err := os.MkdirTemp(r.Dir, "rescan-")
	if err != nil {
		return slipway.Scan{}, fmt.Errorf("folder for the scan: %w", err)
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	scan, _, _, err := r.Runner.image(ctx, stage.Env{Log: r.Log, Now: r.Runner.Now}, s, state)
	if err != nil {
		return scan, err
	}
	return scan, whole(scan)
}

// Newer is what is known of an image that was scanned again after a run had scanned it: what the later scan found in the
// image, with the secrets that the run found in the service's folder. It is false, and ran, where last is not later, is
// of an older database or of none, or where ran is of the report of another scanner.
func Newer(ran, last slipway.Scan) (slipway.Scan, bool) {
	foreign := ran.Database.Checksum == "" && ran.Database.Missing == ""
	if foreign || last.Digest != ran.Digest || last.Database.Missing != "" || last.Database.Checksum == "" || last.Refused ||
		!last.ScannedAt.After(ran.ScannedAt) || last.Database.Built.Before(ran.Database.Built) {
		return ran, false
	}
	last.Findings = slices.Clone(last.Findings)
	for _, f := range ran.Findings {
		if f.Kind == slipway.FindingSecret && !slices.ContainsFunc(last.Findings, func(l slipway.Finding) bool {
			return l.Kind == f.Kind && l.ID == f.ID && l.Path == f.Path && l.Line == f.Line && l.Layer == f.Layer
		}) {
			last.Findings = append(last.Findings, f)
		}
	}
	last.Findings = sorted(last.Findings)
	if !ran.Refused { // else what was not looked at has been since
		last.Problems = append(slices.Clone(last.Problems), ran.Problems...)
	}
	return last, true
}

// group is an image with where it runs.
type group struct {
	Found
	repo slipway.Repository
}

func (r Rescan) images(ctx context.Context) ([]group, error) {
	list, err := r.Deployed.InUse(ctx)
	if err != nil {
		return nil, err
	}
	var out []group
	for _, d := range list {
		if r.Wanted == nil {
			break
		}
		repo, ok := r.Wanted(d)
		if !ok || d.ImageDigest == "" {
			continue
		}
		t := d.Target
		at := slices.IndexFunc(out, func(g group) bool {
			return g.Project == t.Project && g.Service == t.Service && g.Digest == d.ImageDigest
		})
		if at < 0 {
			at = len(out)
			out = append(out, group{repo: repo, Found: Found{Project: t.Project, Service: t.Service, Version: d.Version, Image: repo.Ref(), Digest: d.ImageDigest}})
		}
		if !slices.Contains(out[at].Environments, t.Environment) {
			out[at].Environments = append(out[at].Environments, t.Environment)
			slices.Sort(out[at].Environments)
		}
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Digest, b.Digest))
	})
	return out, nil
}

func (r Rescan) one(ctx context.Context, g group, state State, found func(Found) error) error {
	before, known, err := r.Deployed.SeenScan(ctx, g.Project, g.Digest)
	if err != nil {
		return err
	}
	if known && before.Database.Checksum == state.Database.Checksum && before.Scanner == state.Scanner {
		return nil
	}
	scan, err := r.again(ctx, subject{project: g.Project, repo: g.repo, digest: g.Digest}, state)
	if err != nil {
		return err
	}
	g.Scan, g.New = scan, fresh(before, scan)
	if len(g.New) > 0 {
		if err := found(g.Found); err != nil {
			return err
		}
	}
	return r.Deployed.SawScan(ctx, g.Project, g.Digest, state.Database.Checksum, state.Scanner)
}

// fresh are the critical vulnerabilities of a scan that an earlier one had not, or not as critical.
func fresh(before, after slipway.Scan) (out []slipway.Finding) {
	critical := func(f slipway.Finding) bool {
		return f.Kind == slipway.FindingVulnerability && f.Severity == slipway.SeverityCritical
	}
	for _, f := range after.Findings {
		if !critical(f) {
			continue
		}
		if !slices.ContainsFunc(before.Findings, func(b slipway.Finding) bool {
			return critical(b) && b.ID == f.ID && b.Package == f.Package
		}) {
			out = append(out, f)
		}
	}
	return out
}
