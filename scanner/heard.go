package scanner

import (
	"encoding/json"
	"errors"

	"github.com/anchore/grype/grype/pkg"
	"github.com/anchore/grype/grype/vulnerability"
)

// heard is a database that remembers its first trouble: grype logs what a lookup of a package returns as its error,
// and goes on to the next as if there were nothing to find. It is for one scan, which asks one question after the
// other. That it does not know whether a distribution is still maintained changes no match.
type heard struct {
	provider vulnerability.Provider
	err      error
}

var _ vulnerability.Provider = (*heard)(nil)

// FindVulnerabilities implements vulnerability.Provider.
func (h *heard) FindVulnerabilities(criteria ...vulnerability.Criteria) ([]vulnerability.Vulnerability, error) {
	found, err := h.provider.FindVulnerabilities(criteria...)
	h.note(err)
	return found, err
}

// VulnerabilityMetadata implements vulnerability.Provider.
func (h *heard) VulnerabilityMetadata(ref vulnerability.Reference) (*vulnerability.Metadata, error) {
	m, err := h.provider.VulnerabilityMetadata(ref)
	h.note(err)
	return m, err
}

// PackageSearchNames implements vulnerability.Provider.
func (h *heard) PackageSearchNames(p pkg.Package) []string { return h.provider.PackageSearchNames(p) }

// Close implements vulnerability.Provider. The database outlives the scan.
func (h *heard) Close() error { return nil }

// note keeps errors of the file: of SQLite, which have a code, and of the records in it. Those of a package, such as
// a version that is none, are the image's own.
func (h *heard) note(err error) {
	var sqlite interface {
		error
		Code() int
	}
	var record *json.SyntaxError
	if h.err == nil && (errors.As(err, &sqlite) || errors.As(err, &record)) {
		h.err = err
	}
}
