// Package scan is the step that looks into the run's image: which packages it has (the SBOM), which of them
// have known vulnerabilities, and which secrets were left in it or in the service's folder. What was scanned
// before with the same database and scanner is not scanned again; reports of other scanners can take the
// place of the scan. Images in production are scanned again when the database changes.
//
// It judges nothing: what may pass is the gates' business. It does not know syft and grype, and does not
// fetch the database.
package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// State is what the next scan would be done with.
type State struct {
	Scanner  string // name and versions, also of its patterns
	Database slipway.ScanDatabase
}

// Request asks for a scan of an image.
type Request struct {
	Layout string // folder of an OCI layout that holds one image
	Name   string // repository, for the documents
	Digest string
	// CycloneDX asks for that document too.
	CycloneDX bool
	// Progress, when set, is called with lines for people.
	Progress func(line string)
}

// Report is what was found in an image.
type Report struct {
	Scan      slipway.Scan
	SBOM      []byte // SPDX 2.3 JSON
	CycloneDX []byte // JSON, when it was asked for
}

// Secrets are what was found in a folder.
type Secrets struct {
	Findings []slipway.Finding
	Problems []string // what was not looked at
}

// Scanner looks into images and folders. Content that it refuses, or that is too much for it, is a problem
// in the answer; an error means that the scanner could not do its work.
type Scanner interface {
	// State answers at once, without a scan. A missing database is no error.
	State(ctx context.Context) (State, error)
	Image(ctx context.Context, req Request) (Report, error)
	Folder(ctx context.Context, dir string) (Secrets, error)
}

// Images gives what is in registries.
type Images interface {
	// Layout writes an image into an empty folder as an OCI layout and returns the digest of what it
	// wrote: of an index, the image for this machine's platform. An image that exceeds the client's
	// bounds is Invalid, with the reason.
	Layout(ctx context.Context, repo slipway.Repository, digest, dir string) (string, error)
}

// Past keeps scans.
type Past interface {
	// Scan is that of a digest with this database and scanner, whose SBOM is kept too; false when there is none.
	Scan(ctx context.Context, project, digest, database, scanner string) (slipway.Scan, bool, error)
	// AnyScan is the same of whatever project.
	AnyScan(ctx context.Context, digest, database, scanner string) (slipway.Scan, bool, error)
	// KeepScan keeps a scan under its digest, database and scanner, in place of one that is there. seen: people
	// saw it, as it belongs to a run.
	KeepScan(ctx context.Context, project string, scan slipway.Scan, sbom []byte, seen bool) error
}

// Repo hashes folders of a repository.
type Repo interface {
	TreeHash(ctx context.Context, commit, dir string) (string, error)
}

// Runner is the scan step.
type Runner struct {
	Scanner Scanner
	Images  Images
	Past    Past
	Repo    func(project string) Repo // nil: folders are scanned each time
	// Base finds what an image was built from. nil: never known.
	Base func(ctx context.Context, project string, repo slipway.Repository, digest string) (Base, error)
	// Turns has each base image scanned by one at a time. nil: as many as come.
	Turns *Turns
	Now   func() time.Time // for Rescan; a step has its own
}

// Base is the image that another one was built from. The zero Base is of one of which it is not known, or that
// was built from none.
type Base struct {
	Name       string             // as the build named it
	Repository slipway.Repository // where it is read from
	Digest     string             // of the image for the same platform
}

// Run scans the image that the step names, and the folder of its service.
func (r Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Scan
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no scan", step.Key)
	}
	digest, ok := imageOf(env, step)
	if !ok {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s: the run has no image of %s", step.Key, step.Service)
	}
	dir, err := env.Workspace.Dir("scan-" + step.Service)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("folder for the scan: %w", err)
	}
	state, err := r.Scanner.State(ctx)
	if err != nil {
		return slipway.Result{}, err
	}
	tree, err := env.Workspace.Tree(ctx, spec.Source.Codebase, spec.Source.Commit)
	if err != nil {
		return stage.Refused(err)
	}
	scan, sbom, reused, err := r.imageOrReports(ctx, env, step, subject{env.Run.Project, spec.Image, digest, dir, true}, tree, state)
	if err != nil {
		return stage.Refused(err)
	}
	secrets, err := r.folder(ctx, env, step, tree, state)
	if err != nil {
		return slipway.Result{}, err
	}
	scan.Findings = sorted(append(scan.Findings, secrets.Findings...))
	scan.Problems = append(scan.Problems, secrets.Problems...)
	res := slipway.Result{Outcome: slipway.Succeeded, Reason: Summary(scan), Scan: &scan}
	if reused {
		res.Reason += "; the image was scanned before"
	}
	if scan.SBOM != "" {
		a, err := sbomArtifact(env, step, dir, scan, sbom)
		if err != nil {
			return slipway.Result{}, err
		}
		res.Artifacts = append(res.Artifacts, a)
	}
	tell(env, scan)
	return res, nil
}

// imageOrReports is what is known about the image: what the reports of other scanners say when the step names
// them, else a scan.
func (r Runner) imageOrReports(ctx context.Context, env stage.Env, step slipway.PlanStep, s subject, tree string, state State) (slipway.Scan, []byte, bool, error) {
	if len(step.Scan.Reports) == 0 {
		return r.image(ctx, env, s, state)
	}
	scan, err := r.reports(env, step, tree)
	if err != nil {
		return scan, nil, false, err
	}
	scan.Digest, scan.Findings = s.digest, sorted(scan.Findings)
	return scan, nil, false, r.keep(ctx, s, scan, nil)
}

// imageOf is the digest of what the step scans.
func imageOf(env stage.Env, step slipway.PlanStep) (string, bool) {
	if b := step.Scan.Built; b != nil {
		return b.Digest, true
	}
	a, ok := env.Artifact(slipway.ArtifactImage, step.Service)
	return a.Digest, ok
}

// subject is an image to scan, and the folder to do it in.
type subject struct {
	project string
	repo    slipway.Repository
	digest  string
	dir     string
	seen    bool // the scan is of a run
}

// image is the scan of an image: the earlier one when nothing that it depends on has changed. What its base
// image has too is marked; a base that could not be read before is tried again.
func (r Runner) image(ctx context.Context, env stage.Env, s subject, state State) (slipway.Scan, []byte, bool, error) {
	scan, known, err := r.past(ctx, s, state)
	if err != nil || (known && (r.Base == nil || scan.BaseProblem == "")) {
		return scan, nil, known, err
	}
	var sbom []byte
	if !known {
		rep, err := r.fresh(ctx, env, s, state)
		if err != nil {
			return slipway.Scan{}, nil, false, err
		}
		scan, sbom = rep.Scan, rep.SBOM
	}
	before := scan.BaseProblem
	if err := r.compare(ctx, env, s, state, &scan); err != nil {
		return scan, nil, false, err
	}
	if known && scan.BaseProblem == before {
		return scan, nil, true, nil
	}
	return scan, sbom, known, r.keep(ctx, s, scan, sbom)
}

// compare marks what the base image has too, or notes why that is not known: the gates tell it, and count all
// findings as new.
func (r Runner) compare(ctx context.Context, env stage.Env, s subject, state State, scan *slipway.Scan) error {
	scan.Base, scan.BaseImage, scan.BaseProblem = "", "", ""
	if r.Base == nil || state.Database.Missing != "" { // without a database there is nothing to compare
		return nil
	}
	base, err := r.Base(ctx, s.project, s.repo, s.digest)
	var of slipway.Scan
	if err == nil {
		if base.Digest == "" || base.Digest == s.digest {
			return nil
		}
		of, err = r.base(ctx, env, s, state, base)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		scan.BaseProblem = err.Error()
		env.Log.Printf("%s", scan.BaseProblem)
		return nil
	}
	mark(scan, of, base.Digest)
	scan.BaseImage = base.Name
	return nil
}

// base is the scan of a base image: it is scanned once, whatever is built from it in whatever project. That is
// nobody's secret: who asks has an image that begins with its layers.
func (r Runner) base(ctx context.Context, env stage.Env, s subject, state State, b Base) (slipway.Scan, error) {
	s.repo, s.digest, s.dir, s.seen = b.Repository, b.Digest, filepath.Join(s.dir, "base"), false
	done, err := r.Turns.take(ctx, b.Digest)
	if err != nil {
		return slipway.Scan{}, err
	}
	defer done()
	if r.Past != nil {
		scan, known, err := r.Past.AnyScan(ctx, b.Digest, state.Database.Checksum, state.Scanner)
		if err != nil || known {
			return scan, err
		}
	}
	rep, err := r.fresh(ctx, env, s, state)
	if err == nil {
		err = whole(rep.Scan)
	}
	if err != nil {
		return slipway.Scan{}, fmt.Errorf("the base image %s could not be read: %w", b.Name, err)
	}
	return rep.Scan, r.keep(ctx, s, rep.Scan, rep.SBOM)
}

// whole is an error for a scan that is no measure of others, as not everything was looked at.
func whole(scan slipway.Scan) error {
	switch {
	case len(scan.Problems) > 0:
		return errors.New(scan.Problems[0])
	case scan.Database.Missing != "":
		return errors.New(scan.Database.Missing)
	}
	return nil
}

// keep leaves out what was not looked at in full: the reason may be gone next time.
func (r Runner) keep(ctx context.Context, s subject, scan slipway.Scan, sbom []byte) error {
	if r.Past == nil || len(scan.Problems) > 0 || scan.Database.Unreadable() {
		return nil
	}
	return r.Past.KeepScan(ctx, s.project, scan, sbom, s.seen)
}

// past is the scan that was kept of an image.
func (r Runner) past(ctx context.Context, s subject, state State) (slipway.Scan, bool, error) {
	if r.Past == nil {
		return slipway.Scan{}, false, nil
	}
	scan, ok, err := r.Past.Scan(ctx, s.project, s.digest, state.Database.Checksum, state.Scanner)
	if ok {
		scan.Image, scan.Database = s.repo.Ref(), state.Database
	}
	return scan, ok, err
}

// fresh fetches an image and scans it. One that is refused is a scan that says so, as is one that the scanner
// refused a short while ago: the gates decide.
func (r Runner) fresh(ctx context.Context, env stage.Env, s subject, state State) (Report, error) {
	name := s.repo.Ref()
	if scan, known, err := r.refusal(ctx, env, s, state); err != nil || known {
		return Report{Scan: scan}, err
	}
	layout := filepath.Join(s.dir, "layout")
	if err := empty(layout); err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(layout)
	began := now(env)
	env.Log.Printf("scanning %s@%s", name, s.digest)
	platform, err := r.Images.Layout(ctx, s.repo, s.digest, layout)
	if slipway.ErrorCode(err) == slipway.Invalid {
		return Report{Scan: slipway.Scan{Image: name, Digest: s.digest, Scanner: state.Scanner, Database: state.Database, ScannedAt: began,
			Findings: []slipway.Finding{}, Refused: true, Problems: []string{fmt.Sprintf("image %s@%s was not scanned: %s", name, s.digest, err)}}}, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("fetch image %s@%s: %w", name, s.digest, err)
	}
	rep, err := r.Scanner.Image(ctx, Request{Layout: layout, Name: name, Digest: platform, Progress: func(line string) { env.Log.Printf("%s", line) }})
	if err != nil {
		return Report{}, fmt.Errorf("scan image %s@%s: %w", name, s.digest, err)
	}
	rep.Scan.Image, rep.Scan.Digest, rep.Scan.ScannedAt = name, s.digest, began
	if rep.SBOM != nil {
		rep.Scan.SBOM = slipway.DigestOf(rep.SBOM)
	}
	rep.Scan.Findings = sorted(rep.Scan.Findings)
	return rep, r.keepRefusal(ctx, s, rep.Scan)
}

// mark notes what the base image has too, by what it is rather than where: a later layer may rewrite the
// package list.
func mark(scan *slipway.Scan, base slipway.Scan, digest string) {
	type key struct{ id, pkg, version, path string }
	of := func(f slipway.Finding) key {
		if f.Kind == slipway.FindingSecret {
			return key{id: f.ID, path: f.Path}
		}
		return key{id: f.ID, pkg: f.Package, version: f.Version}
	}
	has := map[key]bool{}
	for _, f := range base.Findings {
		has[of(f)] = true
	}
	for i, f := range scan.Findings {
		scan.Findings[i].InBase = has[of(f)]
	}
	scan.Base = digest
}

// folder looks for secrets in the service's folder; one that has not changed is not looked at again.
func (r Runner) folder(ctx context.Context, env stage.Env, step slipway.PlanStep, tree string, state State) (Secrets, error) {
	spec := step.Scan
	sub := filepath.FromSlash(spec.Source.Dir)
	if sub != "" && !filepath.IsLocal(sub) {
		return Secrets{}, slipway.Errorf(slipway.Invalid, "service folder %q is outside of the repository", spec.Source.Dir)
	}
	key := ""
	if r.Repo != nil && r.Past != nil {
		hash, err := r.Repo(slipway.CodebaseKey(env.Run.Project, spec.Source.Codebase)).TreeHash(ctx, spec.Source.Commit, spec.Source.Dir)
		if err != nil {
			return Secrets{}, fmt.Errorf("find the files of %s: %w", step.Service, err)
		}
		key = "tree:" + hash
		switch old, ok, err := r.Past.Scan(ctx, env.Run.Project, key, "", state.Scanner); {
		case err != nil:
			return Secrets{}, err
		case ok:
			return Secrets{Findings: placed(old.Findings, spec.Source.Dir)}, nil
		}
	}
	found, err := r.Scanner.Folder(ctx, filepath.Join(tree, sub))
	if err != nil {
		return Secrets{}, fmt.Errorf("look for secrets in the folder of %s: %w", step.Service, err)
	}
	if key != "" && len(found.Problems) == 0 {
		kept := slipway.Scan{Digest: key, Scanner: state.Scanner, ScannedAt: now(env), Findings: found.Findings}
		if err := r.Past.KeepScan(ctx, env.Run.Project, kept, nil, true); err != nil {
			return Secrets{}, err
		}
	}
	found.Findings = placed(found.Findings, spec.Source.Dir)
	return found, nil
}

// placed gives findings of a folder their paths in the repository.
func placed(list []slipway.Finding, dir string) []slipway.Finding {
	out := make([]slipway.Finding, 0, len(list))
	for _, f := range list {
		f.Path = strings.TrimPrefix(filepath.ToSlash(filepath.Join(dir, f.Path)), "/")
		out = append(out, f)
	}
	return out
}

// sbomArtifact names the SBOM. A new one is written to a file; of one that is kept already, the digest is enough.
func sbomArtifact(env stage.Env, step slipway.PlanStep, dir string, scan slipway.Scan, sbom []byte) (slipway.Artifact, error) {
	a := slipway.Artifact{
		Project: env.Run.Project, RunID: env.Run.ID, Step: step.Key, Service: step.Service, Kind: slipway.ArtifactSBOM,
		Repository: scan.Image, Digest: scan.SBOM, Subject: scan.Digest, Size: int64(len(sbom)),
		Commit: step.Scan.Source.Commit, CreatedAt: now(env),
	}
	if sbom == nil {
		return a, nil
	}
	a.Path = filepath.Join(dir, "sbom.spdx.json")
	if err := writeSynced(a.Path, sbom); err != nil {
		return a, fmt.Errorf("write the SBOM: %w", err)
	}
	return a, nil
}

// writeSynced writes a file that is whole on the disk when it is recorded.
func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func now(env stage.Env) time.Time {
	if env.Now == nil {
		return time.Time{}
	}
	return env.Now()
}

// empty makes a folder, without what an interrupted attempt left in it.
func empty(dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("empty the folder of the scan: %w", err)
	}
	return nil
}
