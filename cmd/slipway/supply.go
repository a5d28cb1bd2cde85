package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/stage/scan"
	"github.com/slipway-cd/slipway/store"
)

// openSupply opens what scans images and what signs them.
func (s *server) openSupply() error {
	program, err := grype.Find(s.opts.scanner)
	if err != nil {
		return err
	}
	s.scanner, err = grype.New(grype.Options{Program: program, Database: filepath.Join(s.opts.data, "vulnerabilities"), Temp: filepath.Join(s.opts.data, "scans")})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.scanner.Close)
	if err := s.openBases(); err != nil {
		return err
	}
	s.verifier = attest.NewVerifier(s.oci, cosign.Bundles{}, s.store.Keys, attest.VerifierOptions{Builders: s.builders})
	return nil
}

// openKeys makes the key that signs, the first time, and returns the identities that provenance may have.
func (s *server) openKeys(ctx context.Context) ([]string, error) {
	if _, err := s.store.SigningKey(ctx); err != nil {
		return nil, err
	}
	return s.store.Builders(ctx, s.opts.url)
}

// scans is the runner of scan steps.
func (s *server) scans() scan.Runner {
	return scan.Runner{Scanner: s.scanner, Images: s.oci, Past: s.store, Now: time.Now, Base: s.baseOf, Turns: &s.baseTurns,
		Repo: func(project string) scan.Repo { return s.repos.Open(project) }}
}

// openBases opens the search for base images, in the mirrors that builds have.
func (s *server) openBases() error {
	var opts oci.BasesOptions
	for _, m := range s.opts.mirrors {
		mirror, err := parseMirror(m, s.address)
		if err != nil {
			return err
		}
		host, address := s.opts.registryHost, mirror.Address
		if address != "http://"+s.address {
			_, host, _ = strings.Cut(address, "://")
		}
		opts.Mirrors = append(opts.Mirrors, oci.Mirror{Registry: mirror.Registry,
			At: slipway.Repository{Registry: slipway.Registry{Host: host, Address: address}, Name: mirror.Prefix}})
	}
	s.bases = oci.NewBases(s.oci, opts)
	return nil
}

// baseOf is the image that an image of a project was built from, by the record of its build.
func (s *server) baseOf(ctx context.Context, project string, repo slipway.Repository, digest string) (scan.Base, error) {
	record, err := s.store.BuildRecord(ctx, project, digest)
	if err != nil {
		return scan.Base{}, err
	}
	b, err := s.bases.Of(ctx, repo, digest, record)
	return scan.Base{Name: b.Name, Repository: b.Repository, Digest: b.Digest}, err
}

// signer is the runner of attest steps.
func (s *server) signer() stage.Runner {
	return &attest.Runner{Registry: s.oci, Bundles: cosign.Bundles{}, Keys: s.store, Evidence: evidence{s.store}, URL: s.opts.url}
}

// evidence is what is on record about an image, for its attestations.
type evidence struct{ *store.Store }

// ScanOf is the newest scan of an image.
func (e evidence) ScanOf(ctx context.Context, project, image string) (slipway.Scan, error) {
	found, ok, err := e.LastScan(ctx, project, image)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "%s was not scanned", image)
	}
	return found, err
}

// SBOM is a kept SPDX document.
func (e evidence) SBOM(ctx context.Context, digest string) ([]byte, error) {
	return e.Document(ctx, digest)
}

// signatures verifies what is signed about the image and the chart of a deployment.
func (s *server) signatures(ctx context.Context, env stage.Env, step slipway.PlanStep, policy slipway.SignatureGate) (*slipway.SignatureReport, error) {
	d := step.Deploy
	image, ok := env.Artifact(slipway.ArtifactImage, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "run %d made no image of %s", env.Run.ID, step.Service)
	}
	chart, ok := env.Artifact(slipway.ArtifactChart, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "run %d made no chart of %s", env.Run.ID, step.Service)
	}
	report, err := s.verifier.Report(ctx,
		attest.Subject{Kind: slipway.ArtifactImage, Repository: d.Image, Digest: image.Digest, Attestations: policy.Attestations},
		attest.Subject{Kind: slipway.ArtifactChart, Repository: d.Chart, Digest: chart.Digest, Attestations: []string{}})
	return &report, err
}

const (
	// updateEvery is how often the mirror of the vulnerability database is asked.
	updateEvery = 6 * time.Hour
	// updateAgain is when it is asked again after it could not be reached.
	updateAgain = 15 * time.Minute
	// lookEvery is how often it is looked whether somebody put another database in place.
	lookEvery = 5 * time.Second
	// rescanEvery is how often it is looked whether production runs, or people are asked to approve, what this database
	// has not seen: what was approved came later than its scan.
	rescanEvery = time.Hour
	// rescanAgain is when that is first done again after it went wrong; the pause doubles up to rescanEvery.
	rescanAgain = 10 * time.Second
)

// rescans says when production is scanned again. The zero value says at once.
type rescans struct {
	known string        // checksum of the database that was used last
	due   time.Time     // of the next one with that database
	pause time.Duration // since the last one failed
}

func (r *rescans) wanted(database string, now time.Time) bool {
	return database != r.known || !now.Before(r.due)
}

// done notes how a rescan ended. One that fails is not repeated at once: what cannot be scanned today may take the
// scanner ten minutes to find out.
func (r *rescans) done(database string, now time.Time, failed bool) {
	switch {
	case !failed:
		r.pause = 0
		r.due = now.Add(rescanEvery)
	default:
		r.pause = min(max(2*r.pause, rescanAgain), rescanEvery)
		r.due = now.Add(r.pause)
	}
	r.known = database
}

// watchVulnerabilities keeps the vulnerability database up to date, and looks again at what runs in production
// or waits to be deployed when it has changed: a new critical finding in production is an event that names the environments.
func (s *server) watchVulnerabilities(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var due time.Time // for an update
	var again rescans
	for {
		if s.opts.scanDatabase != "" && !time.Now().Before(due) {
			due = time.Now().Add(updateEvery)
			if changed, err := s.scanner.Update(ctx, s.opts.scanDatabase); err != nil && ctx.Err() == nil {
				due = time.Now().Add(updateAgain)
				s.log.Error("update the vulnerability database; the one that is there is used on", "error", err)
			} else if changed {
				s.log.Info("the vulnerability database was updated", "built", s.scanner.Database().Built)
			}
		}
		if database := s.scanner.Database().Checksum; again.wanted(database, time.Now()) {
			err := s.rescan(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.Error("scan again what runs in production or waits for it", "error", err)
			}
			again.done(database, time.Now(), err != nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *server) rescan(ctx context.Context) error {
	again := scan.Rescan{Runner: s.scans(), Deployed: s.store, Log: quietly{}, Dir: filepath.Join(s.opts.data, "scans"), Wanted: s.inProduction(ctx)}
	err := again.Run(ctx, func(f scan.Found) error {
		s.log.Warn("new critical findings in production", "project", f.Project, "service", f.Service, "version", f.Version, "environments", strings.Join(f.Environments, ","), "findings", len(f.New))
		return s.store.RecordFound(ctx, f.Project, f.Service, f.Version, f.Digest, f.Environments, f.New)
	})
	waiting, failed := s.awaited(ctx)
	if failed != nil {
		return errors.Join(err, failed)
	}
	return errors.Join(err, again.Waiting(ctx, waiting))
}

// inProduction says which deployments are in production, and where their images are.
func (s *server) inProduction(ctx context.Context) func(slipway.Deployment) (slipway.Repository, bool) {
	configs := map[string]slipway.Config{}
	return func(d slipway.Deployment) (slipway.Repository, bool) {
		c, known := configs[d.Target.Project]
		if !known {
			var err error
			if c, err = s.planner.Policy(ctx, d.Target.Project); err != nil && slipway.ErrorCode(err) != slipway.Invalid {
				s.log.Error("read which environments are production", "project", d.Target.Project, "error", err)
			}
			configs[d.Target.Project] = c
		}
		env, ok := c.Environment(d.Target.Environment)
		_, name, cut := strings.Cut(d.Image, "/")
		if !ok || !env.Production || !cut {
			return slipway.Repository{}, false
		}
		return slipway.Repository{Registry: c.Production, Name: name}, true
	}
}

// quietly is a log that nobody reads.
type quietly struct{}

// Line drops a line.
func (quietly) Line(slipway.LogLine) {}

// Printf drops a line.
func (quietly) Printf(string, ...any) {}
