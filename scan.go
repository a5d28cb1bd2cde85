package slipway

import "time"

// Severity is how bad a finding is.
type Severity string

const (
	SeverityCritical   Severity = "critical"
	SeverityHigh       Severity = "high"
	SeverityMedium     Severity = "medium"
	SeverityLow        Severity = "low"
	SeverityNegligible Severity = "negligible"
	SeverityUnknown    Severity = "unknown" // counts as low
	SeverityNone       Severity = "none"    // of a threshold: nothing reaches it
)

// Severities lists those that a finding may have, worst first.
func Severities() []Severity {
	return []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityUnknown, SeverityNegligible}
}

// rank orders severities; what is not known is low.
func (s Severity) rank() int {
	switch s {
	case SeverityNone:
		return 6
	case SeverityCritical:
		return 5
	case SeverityHigh:
		return 4
	case SeverityMedium:
		return 3
	case SeverityNegligible:
		return 1
	}
	return 2
}

// AtLeast reports whether s is as bad as t or worse.
func (s Severity) AtLeast(t Severity) bool { return s.rank() >= t.rank() }

// Scan is what a scanner found in one image: its packages and what is wrong with them.
type Scan struct {
	Image     string       `json:"image"`  // repository with the stable host name
	Digest    string       `json:"digest"` // of the image manifest
	Scanner   string       `json:"scanner"`
	Database  ScanDatabase `json:"database"`
	Packages  int          `json:"packages"`
	Distro    string       `json:"distro,omitempty"` // "debian 12"
	Findings  []Finding    `json:"findings"`         // worst first
	Base      string       `json:"base,omitempty"`   // digest of the base image, where known
	ScannedAt time.Time    `json:"scannedAt"`
	BaseImage string       `json:"baseImage,omitempty"` // its name, as the build named it
	// BaseProblem is why there is no Base: the base image could not be read.
	BaseProblem string `json:"baseProblem,omitempty"`
	// Platforms are those of an image for several that were scanned: findings say on which they are.
	Platforms []string `json:"platforms,omitempty"`
	// SBOM is the digest of the SPDX document, kept with the scan.
	SBOM string `json:"sbom,omitempty"`
	// Problems are what could not be looked at, with the reason.
	Problems []string `json:"problems,omitempty"`
	// Refused says that nothing of the image was looked at, as it exceeds a bound or is malformed: the first of
	// the Problems says which.
	Refused bool `json:"refused,omitempty"`
}

// ScanDatabase is the vulnerability database that a scan used.
type ScanDatabase struct {
	Built    time.Time `json:"built,omitzero"`
	Checksum string    `json:"checksum,omitempty"`
	Source   string    `json:"source,omitempty"`  // URL or file it came from
	Missing  string    `json:"missing,omitempty"` // why there is none; then no vulnerability can be found
}

// Unreadable reports whether the database was there and could not be read when it was looked into.
func (d ScanDatabase) Unreadable() bool { return d.Missing != "" && d.Checksum != "" }

// FindingKind says what a finding is.
type FindingKind string

const (
	FindingVulnerability FindingKind = "vulnerability"
	FindingSecret        FindingKind = "secret"
)

// Finding is one vulnerability of a package, or one secret.
type Finding struct {
	Kind     FindingKind `json:"kind"`
	ID       string      `json:"id"` // CVE-2024-1234, GHSA-...; of a secret: the name of the pattern
	Severity Severity    `json:"severity"`
	Package  string      `json:"package,omitempty"`
	Version  string      `json:"version,omitempty"`
	Type     string      `json:"type,omitempty"` // deb, apk, npm, go-module ...
	FixedIn  string      `json:"fixedIn,omitempty"`
	Path     string      `json:"path,omitempty"`  // in the image or the tree
	Line     int         `json:"line,omitempty"`  // of a secret
	Layer    string      `json:"layer,omitempty"` // digest
	InBase   bool        `json:"inBase,omitempty"`
	// Platforms on which it is, of an image for several.
	Platforms []string `json:"platforms,omitempty"`
	Title     string   `json:"title,omitempty"` // one line, bounded; never the secret itself
	Link      string   `json:"link,omitempty"`  // https only
	// Dismissed is what the report of another scanner says why it is of no matter, with the name of the report. It
	// counts all the same, until a waiver lets it through.
	Dismissed string `json:"dismissed,omitempty"`
}

// DeployedScan is what runs in an environment, with the newest scan of its image.
type DeployedScan struct {
	Deployment Deployment `json:"deployment"`
	Scan       *Scan      `json:"scan"` // nil: it was never scanned
}

// FindingCounts is how many findings are of each severity; what is not known is low.
type FindingCounts struct {
	Critical   int `json:"critical"`
	High       int `json:"high"`
	Medium     int `json:"medium"`
	Low        int `json:"low"`
	Negligible int `json:"negligible"`
}

// Count counts the findings of a scan.
func (s Scan) Count() (c FindingCounts) {
	for _, f := range s.Findings {
		switch {
		case f.Severity == SeverityCritical:
			c.Critical++
		case f.Severity == SeverityHigh:
			c.High++
		case f.Severity == SeverityMedium:
			c.Medium++
		case f.Severity == SeverityNegligible:
			c.Negligible++
		default:
			c.Low++
		}
	}
	return c
}

// ImageCounts is how many findings the newest scan of an image that runs has.
type ImageCounts struct {
	Digest    string    `json:"digest"`
	ScannedAt time.Time `json:"scannedAt"`
	FindingCounts
}
