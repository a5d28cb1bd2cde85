// Package scanner looks into container images and folders: it lists the packages of an image with syft,
// matches them against a vulnerability database with grype, and finds secrets with the patterns of gitleaks.
// It is a program of its own, since it reads hostile content and links an SQLite driver that cannot share a
// process with Slipway's; Slipway runs it as a child with bounded memory and time and speaks JSON with it.
//
// It needs no network and no credentials: images and databases are files when they come here. It judges
// nothing and keeps nothing but the database.
package scanner

import (
	"runtime/debug"
	"strings"
)

// rules is the version of what this package adds to grype, syft and gitleaks: a change of it makes earlier
// scans stale.
const rules = "3"

// Version names the scanner with all that its findings depend on.
func Version() string {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			versions[d.Path] = strings.TrimPrefix(d.Version, "v")
		}
	}
	return "grype " + versions["github.com/anchore/grype"] + ", syft " + versions["github.com/anchore/syft"] +
		", gitleaks " + versions["github.com/zricethezav/gitleaks/v8"] + ", rules " + rules
}

// Limits bound what is read of an image or a folder, whatever it says about itself. Zero fields have
// defaults.
type Limits struct {
	Layers   int   `json:"layers,omitempty"`   // default 200
	Files    int   `json:"files,omitempty"`    // entries of all layers, or of a folder; default 500,000
	Bytes    int64 `json:"bytes,omitempty"`    // of all layers, unpacked; default 8 GiB
	Findings int   `json:"findings,omitempty"` // default 20,000
}

func (l Limits) withDefaults() Limits {
	if l.Layers <= 0 {
		l.Layers = 200
	}
	if l.Files <= 0 {
		l.Files = 500_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 8 << 30
	}
	if l.Findings <= 0 {
		l.Findings = 20_000
	}
	return l
}

// Request is one thing to do. Exactly one of Layout and Folder is set.
type Request struct {
	// Layout is an OCI image layout: a folder, or a tar archive of one. It holds one image, or an index of
	// which the image for this machine's platform is taken.
	Layout string `json:"layout,omitempty"`
	Name   string `json:"name,omitempty"`   // of the image, for the documents
	Digest string `json:"digest,omitempty"` // of the image in the layout; empty: the only one
	// Database is the folder that Import fills. Without a database no vulnerability is found, and the answer
	// says so.
	Database string `json:"database,omitempty"`
	// Output is a folder for the documents: sbom.spdx.json, and sbom.cdx.json with CycloneDX.
	Output    string `json:"output,omitempty"`
	CycloneDX bool   `json:"cyclonedx,omitempty"`
	// Folder is searched for secrets.
	Folder string `json:"folder,omitempty"`
	Limits Limits `json:"limits,omitzero"`
}

// Answer is what was found, or a line of progress when Progress is set: then more follows.
type Answer struct {
	Progress string `json:"progress,omitempty"`

	Digest   string    `json:"digest,omitempty"`
	Packages int       `json:"packages,omitempty"`
	Distro   string    `json:"distro,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	Database Database  `json:"database,omitzero"`
	// Problems are what was not looked at, each with the reason.
	Problems []string `json:"problems,omitempty"`
	// Refused says why the image or folder was not scanned: it exceeds a bound or is malformed.
	Refused string `json:"refused,omitempty"`
	// Error says why the scanner could not work.
	Error string `json:"error,omitempty"`
}

// Finding is a vulnerability of a package, or a secret; its fields are those of slipway.Finding.
type Finding struct {
	Kind     string `json:"kind"` // vulnerability or secret
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Package  string `json:"package,omitempty"`
	Version  string `json:"version,omitempty"`
	Type     string `json:"type,omitempty"`
	FixedIn  string `json:"fixedIn,omitempty"`
	Path     string `json:"path,omitempty"`
	Line     int    `json:"line,omitempty"`
	Layer    string `json:"layer,omitempty"`
	Title    string `json:"title,omitempty"`
	Link     string `json:"link,omitempty"`
}

// refusal is an error of what is scanned rather than of the scanner.
type refusal struct{ reason string }

func (r refusal) Error() string { return r.reason }

// oneLine bounds a text that comes from outside and puts it on a line.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == ' ' }), " ")
	s = strings.ToValidUTF8(s, "?")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}
