package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	chartTimeout   = slipway.Duration(5 * time.Minute)
	publishTimeout = slipway.Duration(15 * time.Minute)
	scanTimeout    = slipway.Duration(15 * time.Minute)
)

// steps are those of one service up to its artifacts: build, test and chart side by side (BuildKit does
// once what build and test have in common), a scan of what was built, publish when all of them have
// succeeded, and what is signed about it.
func steps(in Input, svc slipway.Service, n naming) []slipway.PlanStep {
	build := buildStep(in, svc, n)
	out := []slipway.PlanStep{build}
	needs := []string{build.Key}
	if svc.Test != nil {
		test := testStep(in, svc, n)
		out, needs = append(out, test), append(needs, test.Key)
	}
	if n.kept {
		scan := scanStep(in, svc, build.Key)
		out, needs = append(out, scan), append(needs, scan.Key)
	}
	if n.publish || n.charted {
		chart := chartStep(in, svc, n)
		out, needs = append(out, chart), append(needs, chart.Key)
	}
	if n.publish {
		publish := publishStep(in, svc, n, needs)
		out = append(out, publish, attestStep(in, svc, publish.Key, build.Build))
	}
	return out
}

// chartSteps are those of a service whose chart changed and whose code did not: the chart is packaged
// with the image that was published of that code before (S23).
func chartSteps(in Input, svc slipway.Service, n naming) []slipway.PlanStep {
	chart := chartStep(in, svc, n)
	if !n.publish {
		return []slipway.PlanStep{chart}
	}
	scan := scanStep(in, svc)
	publish := publishStep(in, svc, n, []string{scan.Key, chart.Key})
	publish.Publish.Built, scan.Scan.Built = in.Changes[svc.Name].Built, in.Changes[svc.Name].Built
	return []slipway.PlanStep{scan, chart, publish, attestStep(in, svc, publish.Key, nil)}
}

// source is a folder of what services are built from.
func (in Input) source(dir string) slipway.Source {
	if in.Source.Commit == "" {
		return slipway.Source{Codebase: in.Run.Codebase, Commit: in.Run.Commit, Dir: dir}
	}
	return slipway.Source{Codebase: in.Source.Codebase, Commit: in.Source.Commit, Dir: dir}
}

func newStep(in Input, kind slipway.StepKind, svc slipway.Service, timeout slipway.Duration, needs ...string) slipway.PlanStep {
	return slipway.PlanStep{
		Key: slipway.StepKey(kind, svc.Name, ""), Kind: kind, Service: svc.Name,
		Needs: needs, Timeout: timeout, Retries: in.Config.Limits.Retries,
	}
}

func buildStep(in Input, svc slipway.Service, n naming) slipway.PlanStep {
	s := newStep(in, slipway.KindBuild, svc, in.Config.Limits.BuildTimeout)
	dir, dockerfile := svc.BuildContext()
	commit, created := revision(in, svc)
	s.Build = &slipway.BuildSpec{
		Source:     in.source(dir),
		Dockerfile: dockerfile, Target: svc.Target, Args: svc.Args, Labels: labels(in, commit, created),
		Epoch: Epoch, Pins: in.Config.Pins, Trust: n.trust, Contexts: contexts(in, svc),
	}
	if n.kept {
		r := image(in, svc)
		s.Build.Image = &r
	}
	return s
}

// scanStep judges what is known to be wrong with the image, and secrets in it and in its source.
func scanStep(in Input, svc slipway.Service, needs ...string) slipway.PlanStep {
	s := newStep(in, slipway.KindScan, svc, scanTimeout, needs...)
	dir, _ := svc.BuildContext()
	s.Scan = &slipway.ScanSpec{Image: image(in, svc), Source: in.source(dir), Reports: svc.Scan.Reports}
	return s
}

// attestStep signs what was published, with what is known about it. build is nil for an image that an
// earlier run built.
func attestStep(in Input, svc slipway.Service, publish string, build *slipway.BuildSpec) slipway.PlanStep {
	s := newStep(in, slipway.KindAttest, svc, publishTimeout, publish)
	s.Attest = &slipway.AttestSpec{
		Image: image(in, svc), Chart: chart(in, svc), Source: in.SourceURL, Ref: in.Run.Ref,
		Commit: in.source("").Commit, Dir: svc.Dir, Build: build,
	}
	return s
}

func testStep(in Input, svc slipway.Service, n naming) slipway.PlanStep {
	s := newStep(in, slipway.KindTest, svc, slipway.Duration(svc.Test.Timeout))
	dir, dockerfile := svc.BuildContext()
	s.Test = &slipway.TestSpec{
		Source:     in.source(dir),
		Dockerfile: dockerfile, Args: svc.Args, Epoch: Epoch, Pins: in.Config.Pins,
		Stage: svc.Test.Stage, Results: svc.Test.Results, Trust: n.trust, Services: svc.Test.Services, Contexts: contexts(in, svc),
	}
	return s
}

func chartStep(in Input, svc slipway.Service, n naming) slipway.PlanStep {
	s := newStep(in, slipway.KindChart, svc, chartTimeout)
	commit, created := chartRevision(in, svc)
	s.Chart = &slipway.ChartSpec{
		Source:  in.source(svc.Chart),
		Service: svc.Name, Port: svc.Port, Version: n.chart, Created: created,
		Renders: renders(in), Labels: labels(in, commit, created), Image: image(in, svc),
	}
	return s
}

func publishStep(in Input, svc slipway.Service, n naming, needs []string) slipway.PlanStep {
	s := newStep(in, slipway.KindPublish, svc, publishTimeout, needs...)
	s.Publish = &slipway.PublishSpec{
		Image: image(in, svc), Tag: n.tag, Chart: chart(in, svc),
		ChartVersion: n.chart, Release: n.release, Commit: in.source("").Commit, Trust: n.trust,
	}
	return s
}

func image(in Input, svc slipway.Service) slipway.Repository {
	return slipway.Repository{Registry: in.Config.Candidates, Name: in.Config.Candidates.Image(in.Project.Name, svc.Name)}
}

func chart(in Input, svc slipway.Service) slipway.Repository {
	return slipway.Repository{Registry: in.Config.Candidates, Name: in.Config.Candidates.Chart(in.Project.Name, svc.Name)}
}

// renders are the environments that the run's artifacts may reach; a pull request's, once it is
// merged and released, may reach all.
func renders(in Input) []slipway.ChartRender {
	out := []slipway.ChartRender{}
	for _, env := range in.Config.Environments {
		switch {
		case in.Run.Event == slipway.DefaultPush && env.Trigger != slipway.OnDefaultBranch:
			continue
		case in.Run.Event == slipway.ReleasePush && env.Trigger != slipway.OnRelease:
			continue
		}
		manifests := env.Gates.Manifests
		if own := in.Config.Production.Host; len(manifests.Registries) > 0 && own != "" {
			manifests.Registries = append(slices.Clone(manifests.Registries), own) // the project's own are always allowed
		}
		out = append(out, slipway.ChartRender{Environment: env.Name, Cluster: env.Cluster, Namespace: env.Namespace, Values: env.Values,
			Production: env.Production, Manifests: &manifests})
	}
	return out
}

// labels are those of D15: they depend on nothing but the service's inputs, so that two commits which
// differ elsewhere give the same image.
func labels(in Input, commit string, created time.Time) map[string]string {
	l := map[string]string{
		"org.opencontainers.image.revision": commit,
		"org.opencontainers.image.created":  created.Format(time.RFC3339),
	}
	if in.SourceURL != "" {
		l["org.opencontainers.image.source"] = in.SourceURL
	}
	return l
}

// chartRevision is the newest commit that touched the service's code or chart, and its time.
func chartRevision(in Input, svc slipway.Service) (string, time.Time) {
	c := in.Changes[svc.Name]
	if c.ChartRevision == "" || c.ChartRevisionTime.IsZero() {
		return revision(in, svc)
	}
	return c.ChartRevision, c.ChartRevisionTime.UTC().Truncate(time.Second)
}

// revision is the newest commit that touched the service's code, and its time; the run's commit when
// that is not known.
func revision(in Input, svc slipway.Service) (string, time.Time) {
	c := in.Changes[svc.Name]
	commit, when := cmp.Or(c.Revision, in.source("").Commit), c.RevisionTime
	if c.Revision == "" || when.IsZero() {
		when = in.CommitTime
	}
	return commit, when.UTC().Truncate(time.Second)
}
