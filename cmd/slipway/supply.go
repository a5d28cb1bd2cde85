package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/judge"
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

// judge is what lets gates speak.
func (s *server) judge() *judge.Judge {
	return &judge.Judge{Policies: s.store, Findings: s.store, Earlier: s.store, Environment: s.planner.Environment,
		Newer: scan.Newer, Again: chart.Again,
		Verify: func(ctx context.Context, d judge.Delivered) (slipway.SignatureReport, error) {
			return s.verifier.Report(ctx,
				attest.Subject{Kind: slipway.ArtifactImage, Repository: d.Image, Digest: d.ImageDigest, Attestations: d.Attestations},
				attest.Subject{Kind: slipway.ArtifactChart, Repository: d.Chart, Digest: d.ChartDigest, Attestations: []string{}})
		}}
}

// watch keeps the vulnerability database up to date and looks again at what runs in production or waits for people.
func (s *server) watch() *scan.Watch {
	return &scan.Watch{
		Rescan: scan.Rescan{Runner: s.scans(), Deployed: s.store, Dir: filepath.Join(s.opts.data, "scans")},
		Waits:  s.store, Candidates: s.planner.Candidates,
		Database: s.scanner, Mirror: s.opts.scanDatabase, Policy: s.planner.Policy, Log: s.log,
		Tell: func(ctx context.Context, f scan.Found) error {
			return s.store.RecordFound(ctx, f.Project, f.Service, f.Version, f.Digest, f.Environments, f.New)
		},
	}
}
