package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage/scan"
)

// maxScanned is how many platforms of an image are scanned at once.
const maxScanned = 16

// targets are what is scanned of an image: it, or each platform of an index.
type targets struct {
	digest string // of the index
	list   []target
}

// target is an image for a platform.
type target struct {
	platform string // empty: not known
	// open gives the image as files; done removes what was fetched.
	open func(ctx context.Context) (req scan.Request, done func() error, err error)
}

// targets finds what an argument names: files here, or what is in a registry, which is fetched into work when
// its turn comes.
func (c *cli) targets(ctx context.Context, image, work string, f scanFlags) (targets, error) {
	if info, err := os.Stat(image); err == nil {
		return filesToScan(image, info, f)
	}
	ref, err := parseArtifactRef(image)
	if err != nil {
		return targets{}, slipway.Errorf(slipway.Invalid, "%q is neither a file nor a folder here, nor an image such as shop/delivery:v1.0.2", image)
	}
	at, err := c.reach(ctx, &ref, f.registry)
	if err != nil {
		return targets{}, err
	}
	registry := at.registry
	if ref.digest == "" {
		if ref.digest, err = registry.Resolve(ctx, ref.repo, ref.tag); err != nil {
			return targets{}, err
		}
	}
	list, err := registry.Platforms(ctx, ref.repo, ref.digest)
	if err == nil {
		list, err = f.chosen(image, list)
	}
	out := targets{digest: ref.digest}
	for _, p := range list {
		out.list = append(out.list, target{p.Platform, func(ctx context.Context) (scan.Request, func() error, error) {
			dir := filepath.Join(work, strings.TrimPrefix(p.Digest, "sha256:"))
			digest, err := registry.Layout(ctx, ref.repo, p.Digest, dir)
			return scan.Request{Layout: dir, Name: ref.repo.Ref(), Digest: digest}, func() error { return os.RemoveAll(dir) }, err
		}})
	}
	return out, err
}

// filesToScan are the images of an OCI layout. Of an archive the scanner finds this machine's: nothing here reads what
// is in one.
func filesToScan(image string, info os.FileInfo, f scanFlags) (targets, error) {
	path, err := filepath.Abs(image)
	if err != nil {
		return targets{}, fmt.Errorf("find %s: %w", image, err)
	}
	list := []oci.PlatformImage{{}}
	switch {
	case info.IsDir():
		found, err := oci.LayoutPlatforms(path)
		if _, none := os.Stat(filepath.Join(path, "index.json")); err != nil && none == nil {
			return targets{}, err // what it holds is not known, so that one of it would not be all
		}
		if len(found) > 0 { // else the scanner says what is wrong with it
			list = found
		}
		if list, err = f.chosen(image, list); err != nil {
			return targets{}, err
		}
	case f.platform != "":
		return targets{}, slipway.Errorf(slipway.Invalid, "--platform chooses in a folder or a registry; unpack %s into a folder first", image)
	}
	var out targets
	for _, p := range list {
		out.list = append(out.list, target{p.Platform, func(context.Context) (scan.Request, func() error, error) {
			return scan.Request{Layout: path, Name: filepath.Base(path), Digest: p.Digest}, func() error { return nil }, nil
		}})
	}
	return out, nil
}

// chosen are the images that --platform and --output leave.
func (f scanFlags) chosen(image string, list []oci.PlatformImage) ([]oci.PlatformImage, error) {
	var names []string
	for _, p := range list {
		names = append(names, first(p.Platform, p.Digest))
	}
	all := strings.Join(names, ", ")
	if f.platform != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(p oci.PlatformImage) bool {
			return p.Platform != f.platform && !strings.HasPrefix(p.Platform, f.platform+"/")
		})
	}
	switch n := len(list); {
	case n == 0 && f.platform == "":
		return nil, slipway.Errorf(slipway.Invalid, "%s names no image", image)
	case n == 0 && len(names) == 1 && names[0] != "" && strings.HasPrefix(names[0], "sha256:"):
		return nil, slipway.Errorf(slipway.Invalid, "%s is for one platform only: leave --platform out", image)
	case n == 0:
		return nil, slipway.Errorf(slipway.Invalid, "%s is not for %s but for %s", image, f.platform, all)
	case n > maxScanned:
		return nil, slipway.Errorf(slipway.Invalid, "%s is for %d platforms, and at most %d are scanned at once: choose one with --platform: %s", image, n, maxScanned, all)
	case n > 1 && (f.output == "spdx" || f.output == "cyclonedx"):
		return nil, slipway.Errorf(slipway.Invalid, "an SBOM is of one platform: choose one with --platform: %s", all)
	}
	return list, nil
}

// platformsOf is on which platforms a finding is, for people.
func platformsOf(x slipway.Finding, s slipway.Scan) string {
	if len(x.Platforms) == len(s.Platforms) {
		return "all"
	}
	return slipway.Printable(strings.Join(x.Platforms, ", "))
}
