package scanner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	stereofile "github.com/anchore/stereoscope/pkg/file"
	"github.com/anchore/stereoscope/pkg/image"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/format/cyclonedxjson"
	"github.com/anchore/syft/syft/format/spdxjson"
	"github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/stereoscopesource"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Scanner scans. It is safe for concurrent use.
type Scanner struct {
	patterns *Patterns
	store    opened // the database
}

// New makes a scanner.
func New() (*Scanner, error) {
	p, err := NewPatterns()
	if err != nil {
		return nil, err
	}
	return &Scanner{patterns: p}, nil
}

// Scan does what a request asks. Trouble is in the answer.
func (s *Scanner) Scan(ctx context.Context, req Request, progress func(string)) Answer {
	req.Limits = req.Limits.withDefaults()
	var a Answer
	var err error
	switch {
	case (req.Layout == "") == (req.Folder == ""):
		err = errors.New("the request must name either a layout or a folder")
	case req.Folder != "":
		a, err = s.folder(ctx, req)
	default:
		a, err = s.image(ctx, req, progress)
	}
	var r refusal
	switch {
	case errors.As(err, &r):
		return Answer{Refused: r.reason, Database: a.Database}
	case err != nil:
		return Answer{Error: oneLine(err.Error(), 2000), Database: a.Database}
	}
	return a
}

func (s *Scanner) image(ctx context.Context, req Request, progress func(string)) (Answer, error) {
	provider, db := s.store.open(req.Database)
	a := Answer{Database: db}
	work, err := os.MkdirTemp("", "scan-")
	if err != nil {
		return a, fmt.Errorf("folder for the scan: %w", err)
	}
	defer os.RemoveAll(work)
	img, err := open(req, filepath.Join(work, "archive"))
	if err != nil {
		return a, err
	}
	digest, err := img.Digest()
	if err != nil {
		return a, refusal{fmt.Sprintf("its manifest cannot be read: %v", err)}
	}
	a.Digest = digest.String()
	search := newSearch(ctx, s.patterns)
	g, err := guard(img, req.Limits, search)
	if err != nil {
		return a, err
	}
	progress(fmt.Sprintf("unpacking %d layers", len(g.layers)))
	read, err := g.unpack(ctx, work)
	if err != nil {
		return a, err
	}
	defer read.Cleanup() //nolint:errcheck // the folder goes with it
	config(ctx, img, search)
	progress("listing packages")
	doc, err := catalog(ctx, read, req)
	if err != nil {
		return a, err
	}
	a.Packages = doc.Artifacts.Packages.PackageCount()
	a.Distro = release(doc)
	if provider != nil {
		progress(fmt.Sprintf("looking up %d packages", a.Packages))
		a.Findings, err = g.vulnerabilities(ctx, provider, doc, req.Limits)
		a.Problems = append(a.Problems, homeless(doc)...)
		var r refusal
		switch {
		case errors.As(err, &r) || ctx.Err() != nil:
			return a, err
		case err != nil:
			// One that cannot be read finds as little as none does.
			a.Database.Missing = fmt.Sprintf("the vulnerability database cannot be read: %s; import it again", oneLine(err.Error(), 500))
		}
	}
	secrets, problems := search.findings()
	a.Findings = append(a.Findings, g.baked(read, secrets)...)
	a.Problems = append(a.Problems, problems...)
	return a, documents(doc, req)
}

// open finds the image of a layout.
func open(req Request, scratch string) (v1.Image, error) {
	dir := req.Layout
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	if !info.IsDir() {
		if err := unpackArchive(dir, scratch, req.Limits); err != nil {
			return nil, err
		}
		dir = scratch
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, refusal{fmt.Sprintf("it is not an OCI image layout: %v", err)}
	}
	return new(chooser).choose(index, req.Digest, 0)
}

// chooser counts the indexes that it reads: a few can name each other in a great many ways.
type chooser struct{ indexes int }

// choose finds the image with a digest, else the only one, else that for this machine's platform.
func (c *chooser) choose(index v1.ImageIndex, digest string, depth int) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, refusal{fmt.Sprintf("its index cannot be read: %v", err)}
	}
	if c.indexes++; c.indexes > 100 || depth > 3 || len(m.Manifests) > 1000 {
		return nil, refusal{"its indexes are nested too deep or too long"}
	}
	var fallback *v1.Descriptor
	for _, d := range m.Manifests {
		if digest != "" && d.Digest.String() == digest && !d.MediaType.IsIndex() {
			return index.Image(d.Digest)
		}
		if d.MediaType.IsIndex() {
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, refusal{fmt.Sprintf("its index cannot be read: %v", err)}
			}
			if img, err := c.choose(child, digest, depth+1); err == nil {
				return img, nil
			}
			continue
		}
		if !d.MediaType.IsImage() || (d.Platform != nil && d.Platform.OS == "unknown") {
			continue
		}
		if fallback == nil || (d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH) {
			fallback = &d
		}
	}
	if fallback == nil {
		return nil, refusal{"it holds no image"}
	}
	return index.Image(fallback.Digest)
}

// unpack reads all layers.
func (g *guarded) unpack(ctx context.Context, work string) (*image.Image, error) {
	cache := filepath.Join(work, "layers")
	if err := os.Mkdir(cache, 0o700); err != nil {
		return nil, fmt.Errorf("folder for layers: %w", err)
	}
	read := image.New(g, stereofile.NewTempDirGenerator("slipway"), cache)
	err := read.Read(ctx)
	if refused := g.refused(); refused != nil {
		err = refused
	} else if err != nil {
		err = refusal{fmt.Sprintf("it cannot be read: %v", err)}
	}
	if err != nil {
		read.Cleanup() //nolint:errcheck // the folder goes with it
		return nil, err
	}
	return read, nil
}

// config searches the configuration: variables and commands of a Dockerfile are readable in it.
func config(ctx context.Context, img v1.Image, s *search) {
	c, err := img.ConfigFile()
	if err != nil || ctx.Err() != nil {
		return
	}
	for _, env := range c.Config.Env {
		name, _, _ := strings.Cut(env, "=")
		s.text([]byte(env), place{path: "variable " + oneLine(name, 100) + " of the image", number: -1, apart: true})
	}
	for i, h := range c.History {
		s.text([]byte(h.CreatedBy), place{path: fmt.Sprintf("command %d of the image's history", i+1), number: -1, apart: true})
	}
}

func catalog(ctx context.Context, read *image.Image, req Request) (*sbom.SBOM, error) {
	src := stereoscopesource.New(read, stereoscopesource.ImageConfig{Reference: req.Name, Alias: source.Alias{Name: req.Name}})
	doc, err := syft.CreateSBOM(ctx, src, Catalogers())
	if err != nil {
		return nil, refusal{fmt.Sprintf("its packages cannot be listed: %s", oneLine(err.Error(), 500))}
	}
	return doc, nil
}

// Catalogers are syft's defaults, which ask no network, with the functions of Go programs, as grype's command
// has them.
func Catalogers() *syft.CreateSBOMConfig {
	cfg := syft.DefaultCreateSBOMConfig().WithTool("slipway-scanner", Version())
	cfg.Packages.Golang = cfg.Packages.Golang.WithCaptureSymbols(cataloging.SymbolScopeAll)
	return cfg
}

func release(doc *sbom.SBOM) string {
	d := doc.Artifacts.LinuxDistribution
	if d == nil {
		return ""
	}
	return oneLine(strings.TrimSpace(d.ID+" "+d.VersionID), 100)
}

// baked are the secrets of layers, with what became of their files above.
func (g *guarded) baked(read *image.Image, secrets []secret) []Finding {
	out := make([]Finding, 0, len(secrets))
	for _, f := range secrets {
		if f.number >= 0 {
			switch visible, last := g.visible(read, f); {
			case !visible:
				f.Title += " (a later layer removes the file; it is in the image nevertheless)"
			case last != f.number:
				f.Title += " (a later layer replaces the file)"
			}
		}
		out = append(out, f.Finding)
	}
	return out
}

// visible reports whether a file is in the finished image, and from which layer.
func (g *guarded) visible(read *image.Image, f secret) (bool, int) {
	ok, node, err := read.SquashedTree().File(stereofile.Path("/" + f.Path))
	if err != nil || !ok || !node.HasReference() {
		return false, 0
	}
	entry, err := read.FileCatalog.Get(*node.Reference)
	if err != nil {
		return true, f.number
	}
	layer := read.FileCatalog.Layer(entry.Reference)
	if layer == nil {
		return true, f.number
	}
	return true, int(layer.Metadata.Index)
}

func documents(doc *sbom.SBOM, req Request) error {
	if req.Output == "" {
		return nil
	}
	spdx, err := spdxjson.NewFormatEncoderWithConfig(spdxjson.DefaultEncoderConfig())
	if err != nil {
		return fmt.Errorf("write the SBOM: %w", err)
	}
	if err := write(doc, spdx, filepath.Join(req.Output, "sbom.spdx.json")); err != nil || !req.CycloneDX {
		return err
	}
	cdx, err := cyclonedxjson.NewFormatEncoderWithConfig(cyclonedxjson.DefaultEncoderConfig())
	if err != nil {
		return fmt.Errorf("write the SBOM: %w", err)
	}
	return write(doc, cdx, filepath.Join(req.Output, "sbom.cdx.json"))
}

func write(doc *sbom.SBOM, enc sbom.FormatEncoder, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the SBOM: %w", err)
	}
	if err := errors.Join(enc.Encode(f, *doc), f.Close()); err != nil {
		return fmt.Errorf("write the SBOM: %w", err)
	}
	return nil
}
