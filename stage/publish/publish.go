// Package publish gives what a run has built its names: Runner tags the image and pushes the chart
// among the candidates, where a release's image tag is the claim of its version (D1, D16), recorded
// before it is made; Retagger gives the same digests their names in the production namespace (D2,
// S64). Names are written once: equal content again succeeds, other content is refused and the refusal
// says what to do.
//
// It builds and deploys nothing and never changes a digest. Registries are behind the interfaces
// Registry and Copier; the embedded registry and driver/oci implement them.
package publish

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Registry is what publishing needs of registries. Errors are slipway.Errors. It is safe for
// concurrent use.
type Registry interface {
	// Resolve returns the digest that a tag names; NotFound when there is none.
	Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error)
	// Tag gives a digest of the repository a tag. A tag that is there with the same digest is
	// success, with another one Conflict.
	Tag(ctx context.Context, repo slipway.Repository, digest, tag string) error
	// PushChart pushes a chart package of that version by digest, without a tag, and returns the
	// digest of its manifest: equal packages, equal digests.
	PushChart(ctx context.Context, repo slipway.Repository, version string, pkg []byte) (string, error)
}

// Releases is where releases are kept: whose a version is, is decided there.
type Releases interface {
	// ClaimVersion records that a run is about to publish a version, in whichever spelling, before anything has its
	// name. Conflict: it was released with other content; Unavailable: another run is about to publish it.
	ClaimVersion(ctx context.Context, v slipway.Release) error
	// Release returns the release of a version as written; NotFound when there is none.
	Release(ctx context.Context, project, service, version string) (slipway.Release, error)
}

const (
	intentKey = "publish"
	maxChart  = 20 << 20
)

// Runner publishes. Releases may be nil: then refusals name digests only, and who publishes at the same moment
// elsewhere is not known. Of the runs that publish a version
// with one Runner, in whichever spelling, one is looked at after the other. It must not be copied.
type Runner struct {
	Registry Registry
	Releases Releases

	versions turns
}

var _ stage.Runner = (*Runner)(nil)

// intent is what a publish step is about to do.
type intent struct {
	Image   string `json:"image"`   // digest
	Package string `json:"package"` // digest of the .tgz
	Tag     string `json:"tag"`
	Version string `json:"version"` // of the chart
}

// Run publishes the run's image, or the earlier one that step.Publish names, and its chart. The chart is
// pushed by digest first, so that nothing has a name before the claim; then the image gets its tag, the
// claim; then the chart its version. Run again after a crash, it ends in the same state.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Publish
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has nothing to publish in it", step.Key)
	}
	image, err := imageOf(env, step)
	if err != nil {
		return slipway.Result{}, err
	}
	pkg, err := chartPackage(env, step.Service)
	if err != nil {
		return slipway.Result{}, err
	}
	p := publishing{runner: r, env: env, step: step, spec: *spec, image: image}
	leave, err := r.versions.enter(ctx, p.version())
	if err != nil {
		return slipway.Result{}, err
	}
	defer leave()
	if refused, err := p.claim(ctx); err != nil || refused != "" {
		return failed(refused), err
	}
	want := intent{Image: image.Digest, Package: slipway.DigestOf(pkg), Tag: spec.Tag, Version: spec.ChartVersion}
	if err := p.remember(ctx, want); err != nil {
		return slipway.Result{}, err
	}
	return p.publish(ctx, pkg)
}

// imageOf is the image to publish: the one that the run built, or an earlier one that the plan names, as
// only the chart changed since (S23).
func imageOf(env stage.Env, step slipway.PlanStep) (slipway.Artifact, error) {
	if b := step.Publish.Built; b != nil {
		return slipway.Artifact{Digest: b.Digest, Size: b.Size}, nil
	}
	image, ok := env.Artifact(slipway.ArtifactImage, step.Service)
	if !ok || image.Digest == "" {
		return image, slipway.Errorf(slipway.Internal, "publish %s: run %d made no image of it", step.Service, env.Run.ID)
	}
	return image, nil
}

// publishing is one Run.
type publishing struct {
	runner *Runner
	env    stage.Env
	step   slipway.PlanStep
	spec   slipway.PublishSpec
	image  slipway.Artifact
}

// remember records the intent, and refuses to go on when an earlier attempt of this step meant
// something else.
func (p publishing) remember(ctx context.Context, want intent) error {
	before, found, err := stage.Intent[intent](ctx, p.env.Journal, intentKey)
	if err != nil {
		return fmt.Errorf("read what an earlier attempt intended: %w", err)
	}
	if found && before != want {
		return slipway.Errorf(slipway.Internal, "publish %s: an earlier attempt was to publish image %s and chart package %s, this one has %s and %s; start a new run", p.step.Service, before.Image, before.Package, want.Image, want.Package)
	}
	if err := p.env.Journal.Put(ctx, intentKey, want); err != nil {
		return fmt.Errorf("record intent: %w", err)
	}
	return nil
}

func (p publishing) publish(ctx context.Context, pkg []byte) (slipway.Result, error) {
	reg, spec := p.runner.Registry, p.spec
	chart, err := reg.PushChart(ctx, spec.Chart, spec.ChartVersion, pkg)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("publish chart of %s: %w", p.step.Service, err)
	}
	there, err := lookUp(ctx, reg, spec.Chart, spec.ChartVersion)
	if err != nil {
		return slipway.Result{}, err
	}
	if there != "" && there != chart {
		return failed(p.taken(ctx, spec.Chart, spec.ChartVersion, there, chart)), nil
	}
	if err := reg.Tag(ctx, spec.Image, p.image.Digest, spec.Tag); err != nil {
		return p.refusedOr(ctx, err, spec.Image, spec.Tag, p.image.Digest)
	}
	p.env.Log.Printf("image %s:%s is %s", spec.Image.Ref(), spec.Tag, p.image.Digest)
	if err := reg.Tag(ctx, spec.Chart, chart, spec.ChartVersion); err != nil {
		return p.refusedOr(ctx, err, spec.Chart, spec.ChartVersion, chart)
	}
	p.env.Log.Printf("chart %s:%s is %s", spec.Chart.Ref(), spec.ChartVersion, chart)
	return p.result(chart, int64(len(pkg))), nil
}

func (p publishing) result(chart string, size int64) slipway.Result {
	now := clock(p.env)
	base := slipway.Artifact{
		Project: p.env.Run.Project, RunID: p.env.Run.ID, Step: p.step.Key, Service: p.step.Service,
		Commit: p.spec.Commit, CreatedAt: now,
	}
	img, ch := base, base
	img.Kind, img.Repository, img.Tag, img.Digest, img.Size = slipway.ArtifactImage, p.spec.Image.Ref(), p.spec.Tag, p.image.Digest, p.image.Size
	ch.Kind, ch.Repository, ch.Tag, ch.Digest, ch.Size = slipway.ArtifactChart, p.spec.Chart.Ref(), p.spec.ChartVersion, chart, size
	res := slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{img, ch}}
	if p.spec.Release {
		res.Release = &slipway.Release{
			Project: p.env.Run.Project, Service: p.step.Service, Version: p.spec.Tag, Commit: p.spec.Commit,
			RunID: p.env.Run.ID, ImageDigest: p.image.Digest, ChartDigest: chart, CreatedAt: now,
		}
	}
	return res
}

// claim claims a release's version, or says why that may not be. What the registry has says more than the record.
func (p publishing) claim(ctx context.Context) (string, error) {
	var claimed error
	if p.spec.Release && p.runner.Releases != nil {
		claimed = p.runner.Releases.ClaimVersion(ctx, slipway.Release{Project: p.env.Run.Project, Service: p.step.Service, Version: p.spec.Tag,
			Commit: p.spec.Commit, RunID: p.env.Run.ID, ImageDigest: p.image.Digest})
	}
	if claimed != nil && slipway.ErrorCode(claimed) != slipway.Conflict {
		return "", fmt.Errorf("claim the version: %w", claimed)
	}
	refused, err := p.checkVersion(ctx)
	if err == nil && refused == "" && claimed != nil {
		refused = claimed.Error()
	}
	return refused, err
}

// checkVersion says why the image's tag may not be claimed, "" when it may. v1.0.2 and 1.0.2 are one
// version.
func (p publishing) checkVersion(ctx context.Context) (string, error) {
	for _, tag := range p.spellings() {
		there, err := lookUp(ctx, p.runner.Registry, p.spec.Image, tag)
		if err != nil {
			return "", err
		}
		if there != "" && there != p.image.Digest {
			return p.taken(ctx, p.spec.Image, tag, there, p.image.Digest), nil
		}
	}
	return "", nil
}

// version is one for all spellings of the image's tag.
func (p publishing) version() string {
	all := p.spellings()
	return p.spec.Image.Ref() + ":" + slices.Min(all)
}

func (p publishing) spellings() []string {
	if !p.spec.Release {
		return []string{p.spec.Tag}
	}
	if bare, ok := strings.CutPrefix(p.spec.Tag, "v"); ok {
		return []string{p.spec.Tag, bare}
	}
	return []string{p.spec.Tag, "v" + p.spec.Tag}
}

// refusedOr turns a conflict, which another run won, into a refusal.
func (p publishing) refusedOr(ctx context.Context, err error, repo slipway.Repository, tag, wanted string) (slipway.Result, error) {
	err = fmt.Errorf("publish %s: %w", p.step.Service, err)
	if b := p.spec.Built; b != nil && slipway.ErrorCode(err) == slipway.NotFound {
		return failed(fmt.Sprintf("image %s@%s, which run %d published of this code, is no longer in the registry: push a commit that changes the code of %s, to have it built again",
			repo.Ref(), b.Digest, b.RunID, p.step.Service)), nil
	}
	if slipway.ErrorCode(err) != slipway.Conflict {
		return slipway.Result{}, err
	}
	there, lookErr := lookUp(ctx, p.runner.Registry, repo, tag)
	if lookErr != nil || there == "" || there == wanted {
		return slipway.Result{}, err
	}
	return failed(p.taken(ctx, repo, tag, there, wanted)), nil
}

// taken is the refusal of a name that other content has.
func (p publishing) taken(ctx context.Context, repo slipway.Repository, tag, there, wanted string) string {
	if !p.spec.Release {
		return fmt.Sprintf("%s:%s is %s already, and this run made %s of the same commit: the build is not reproducible. Tags are never moved; push a new commit", repo.Ref(), tag, there, wanted)
	}
	from := ""
	if rel, ok := p.release(ctx); ok {
		from = fmt.Sprintf(" from commit %s by run %d", slipway.ShortHash(rel.Commit), rel.RunID)
	}
	return fmt.Sprintf("release/%s/%s was published%s: %s:%s is %s. This run made %s of commit %s. A published version is never changed: choose the next version%s",
		p.step.Service, p.spec.Tag, from, repo.Ref(), tag, there, wanted, slipway.ShortHash(p.spec.Commit), next(p.step.Service, p.spec.Tag))
}

func (p publishing) release(ctx context.Context) (slipway.Release, bool) {
	if p.runner.Releases == nil {
		return slipway.Release{}, false
	}
	for _, version := range p.spellings() {
		rel, err := p.runner.Releases.Release(ctx, p.env.Run.Project, p.step.Service, version)
		if err == nil {
			return rel, true
		}
	}
	return slipway.Release{}, false
}

// next names a release branch that could be used instead.
func next(service, tag string) string {
	v, err := slipway.ParseVersion(tag)
	if err != nil {
		return ""
	}
	prefix := strings.TrimSuffix(v.Leaf, v.SemVer())
	return fmt.Sprintf(", such as release/%s/%s%d.%d.%d", service, prefix, v.Major, v.Minor, v.Patch+1)
}

func failed(reason string) slipway.Result {
	if reason == "" {
		return slipway.Result{}
	}
	return slipway.Result{Outcome: slipway.Failed, Reason: reason}
}

// lookUp is Resolve with "" for a tag that is not there.
func lookUp(ctx context.Context, reg interface {
	Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error)
}, repo slipway.Repository, tag string) (string, error) {
	digest, err := reg.Resolve(ctx, repo, tag)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return "", nil
	}
	return digest, err
}

// chartPackage reads the package that the chart step of the run made.
func chartPackage(env stage.Env, service string) ([]byte, error) {
	for i := len(env.Artifacts) - 1; i >= 0; i-- {
		a := env.Artifacts[i]
		if a.Kind != slipway.ArtifactChart || a.Service != service || a.Path == "" {
			continue
		}
		return readPackage(a)
	}
	return nil, slipway.Errorf(slipway.Internal, "publish %s: run %d made no chart of it", service, env.Run.ID)
}

func readPackage(a slipway.Artifact) ([]byte, error) {
	if !filepath.IsAbs(a.Path) {
		return nil, slipway.Errorf(slipway.Internal, "the chart package of %s is at %q, which is no absolute path", a.Service, a.Path)
	}
	fi, err := os.Stat(a.Path)
	if err != nil {
		return nil, fmt.Errorf("chart package of %s: %w", a.Service, err)
	}
	if fi.Size() > maxChart {
		return nil, slipway.Errorf(slipway.Invalid, "the chart package of %s has %d bytes, at most %d are allowed", a.Service, fi.Size(), maxChart)
	}
	pkg, err := os.ReadFile(a.Path)
	if err != nil {
		return nil, fmt.Errorf("chart package of %s: %w", a.Service, err)
	}
	if a.Digest != "" && a.Digest != slipway.DigestOf(pkg) {
		return nil, slipway.Errorf(slipway.Internal, "the chart package of %s is no longer what was checked (%s, now %s); retry the chart step", a.Service, a.Digest, slipway.DigestOf(pkg))
	}
	return pkg, nil
}

func clock(env stage.Env) (t time.Time) {
	if env.Now != nil {
		t = env.Now()
	}
	return t
}
