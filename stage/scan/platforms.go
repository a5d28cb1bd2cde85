package scan

import (
	"slices"

	"github.com/slipway-cd/slipway"
)

// Platforms makes one scan of those of an image for several platforms, in the order of the platforms: a finding of
// some of them says of which. Packages are those of all together. Of a single platform it is its scan.
func Platforms(platforms []string, scans []slipway.Scan) slipway.Scan {
	if len(scans) == 1 {
		return scans[0]
	}
	out := scans[0]
	out.Platforms, out.Packages, out.SBOM = platforms, 0, ""
	out.Findings, out.Problems = []slipway.Finding{}, nil
	type key struct {
		kind                            slipway.FindingKind
		id, pkg, version, of, fix, path string
		line                            int
	}
	at := map[key]int{}
	for i, s := range scans {
		out.Packages += s.Packages
		out.Refused = out.Refused || s.Refused
		for _, p := range s.Problems {
			out.Problems = append(out.Problems, platforms[i]+": "+p)
		}
		for _, f := range s.Findings {
			k := key{f.Kind, f.ID, f.Package, f.Version, f.Type, f.FixedIn, f.Path, f.Line}
			n, known := at[k]
			if !known {
				n = len(out.Findings)
				at[k], f.Platforms = n, nil
				out.Findings = append(out.Findings, f)
			}
			if !slices.Contains(out.Findings[n].Platforms, platforms[i]) {
				out.Findings[n].Platforms = append(out.Findings[n].Platforms, platforms[i])
			}
		}
	}
	Sort(out.Findings)
	return out
}
