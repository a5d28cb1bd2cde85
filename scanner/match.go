package scanner

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/anchore/grype/grype"
	"github.com/anchore/grype/grype/distro"
	"github.com/anchore/grype/grype/match"
	"github.com/anchore/grype/grype/matcher"
	"github.com/anchore/grype/grype/matcher/golang"
	"github.com/anchore/grype/grype/matcher/stock"
	"github.com/anchore/grype/grype/pkg"
	"github.com/anchore/grype/grype/vulnerability"
	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/cataloging"
	syftpkg "github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/sbom"
)

// vulnerabilities matches the packages of an image as the grype command does by default.
func (g *guarded) vulnerabilities(ctx context.Context, provider vulnerability.Provider, doc *sbom.SBOM, limits Limits) ([]Finding, error) {
	heard := &heard{provider: provider}
	matches, err := Match(ctx, heard, doc)
	if err == nil {
		err = heard.err
	}
	if err != nil {
		return nil, fmt.Errorf("look up vulnerabilities: %w", err)
	}
	digests := map[string]string{}
	for _, l := range g.layers {
		digests[l.diffID] = l.digest
	}
	if len(matches) > limits.Findings {
		return nil, refusal{fmt.Sprintf("it has %d vulnerabilities; at most %d are taken", len(matches), limits.Findings)}
	}
	out := make([]Finding, 0, len(matches))
	for _, found := range matches {
		out = append(out, finding(found, digests))
	}
	return out, nil
}

// Match is grype with the defaults of its command.
func Match(ctx context.Context, provider vulnerability.Provider, doc *sbom.SBOM) ([]match.Match, error) {
	src := doc.Source
	release := distro.FromRelease(doc.Artifacts.LinuxDistribution, distro.DefaultFixChannels())
	matcher := grype.VulnerabilityMatcher{
		VulnerabilityProvider: provider,
		Matchers: matcher.NewDefaultMatchers(matcher.Config{
			Stock:  stock.MatcherConfig{UseCPEs: true},
			Golang: golang.MatcherConfig{AlwaysUseCPEForStdlib: true},
		}),
		IgnoreRules: kernelHeaders(),
	}
	found, _, err := matcher.FindMatchesContext(ctx, matchable(doc, release), pkg.Context{Source: &src, Distro: release})
	if err != nil {
		return nil, err
	}
	return found.Sorted(), nil
}

// matchable are the packages that grype looks up: those with a version, and not those that a package of
// the distribution brought, as its feed speaks for them.
func matchable(doc *sbom.SBOM, release *distro.Distro) []pkg.Package {
	all := pkg.FromCollection(doc.Artifacts.Packages, doc.Relationships, pkg.SynthesisConfig{})
	for _, p := range all {
		if p.Distro == nil {
			p.Distro = release
		}
	}
	return pkg.FromPtrs(slices.DeleteFunc(all, func(p *pkg.Package) bool {
		if p.Version == "" || p.Version == cataloging.UnknownStubValue {
			return true
		}
		return slices.ContainsFunc(p.RelatedPackages[artifact.OwnershipByFileOverlapRelationship], func(owner *pkg.Package) bool {
			return ownedBy(p, owner)
		})
	}))
}

// ownedBy is grype's own rule, which it does not export.
func ownedBy(p, owner *pkg.Package) bool {
	if owner.Distro == nil || (!strings.HasPrefix(owner.Version, p.Version) && !strings.HasPrefix(p.Version, owner.Version)) {
		return false
	}
	return p.Type == syftpkg.BinaryPkg || (comprehensive(owner.Distro) && fromDistro(owner) && !fromDistro(p))
}

func fromDistro(p *pkg.Package) bool {
	return slices.Contains(distroTypes(), p.Type)
}

func distroTypes() []syftpkg.Type {
	return []syftpkg.Type{syftpkg.DebPkg, syftpkg.RpmPkg, syftpkg.PortagePkg, syftpkg.AlpmPkg, syftpkg.ApkPkg}
}

// comprehensive are the distributions whose feeds list also what is not fixed.
func comprehensive(d *distro.Distro) bool {
	if d.Type == distro.AmazonLinux {
		return false
	}
	names := append([]string{d.Name()}, d.IDLike...)
	return slices.ContainsFunc([]distro.Type{distro.ArchLinux, distro.Azure, distro.Debian, distro.Mariner, distro.RedHat, distro.Ubuntu}, func(t distro.Type) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, string(t)) })
	})
}

// kernelHeaders are matched through the kernel, which is not in the image.
func kernelHeaders() []match.IgnoreRule {
	rule := func(name, upstream string, t syftpkg.Type) match.IgnoreRule {
		return match.IgnoreRule{Package: match.IgnoreRulePackage{Name: name, UpstreamName: upstream, Type: string(t)}, MatchType: match.ExactIndirectMatch}
	}
	return []match.IgnoreRule{
		rule("kernel-headers", "kernel", syftpkg.RpmPkg), rule("linux(-.*)?-headers-.*", "linux.*", syftpkg.DebPkg),
		rule("linux-libc-dev", "linux", syftpkg.DebPkg), rule("linux-kbuild-.*", "linux.*", syftpkg.DebPkg),
	}
}

// homeless are the packages of a distribution in an image that does not say which: no feed is asked about them.
func homeless(doc *sbom.SBOM) []string {
	if doc.Artifacts.LinuxDistribution != nil {
		return nil
	}
	n := 0
	for _, t := range distroTypes() {
		n += len(doc.Artifacts.Packages.Sorted(t))
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d packages of a distribution were not looked up: the image does not say which it is (etc/os-release)", n)}
}

func finding(m match.Match, digests map[string]string) Finding {
	f := Finding{
		Kind: "vulnerability", ID: oneLine(m.Vulnerability.ID, 100), Severity: "unknown",
		Package: oneLine(m.Package.Name, 300), Version: oneLine(m.Package.Version, 200), Type: string(m.Package.Type),
		FixedIn: oneLine(strings.Join(m.Vulnerability.Fix.Versions, ", "), 300),
	}
	if m.Vulnerability.Fix.State != vulnerability.FixStateFixed {
		f.FixedIn = ""
	}
	if meta := m.Vulnerability.Metadata; meta != nil {
		f.Severity = severity(meta.Severity)
		f.Title = oneLine(meta.Description, 300)
		f.Link = link(append([]string{meta.DataSource}, meta.URLs...))
	}
	if at := m.Package.Locations.ToSlice(); len(at) > 0 {
		f.Path = oneLine(strings.TrimPrefix(at[0].RealPath, "/"), 500)
		f.Layer = digests[at[0].FileSystemID]
	}
	return f
}

func severity(s string) string {
	s = strings.ToLower(s)
	if slices.Contains([]string{"critical", "high", "medium", "low", "negligible"}, s) {
		return s
	}
	return "unknown"
}

// link is the first that a page may show.
func link(list []string) string {
	for _, s := range list {
		if u, err := url.Parse(s); err == nil && u.Scheme == "https" && u.Host != "" && len(s) <= 2000 {
			return u.String()
		}
	}
	return ""
}
