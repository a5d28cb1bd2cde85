package scanner

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/klauspost/compress/zstd"
	"gorm.io/gorm"
)

// List describes a small database, for tests and demonstrations where no feed can be reached.
type List struct {
	Built           time.Time `json:"built"` // zero: now
	Vulnerabilities []Known   `json:"vulnerabilities"`
}

// Known is a vulnerability of a package.
type Known struct {
	ID        string `json:"id"`
	Severity  string `json:"severity"`
	Title     string `json:"title"`
	Link      string `json:"link"`
	Package   string `json:"package"`
	Ecosystem string `json:"ecosystem"` // deb, apk, npm, go-module, python ...
	Distro    string `json:"distro"`    // of deb, apk and rpm, with its code name if it has one: "debian 12 bookworm"
	Affected  string `json:"affected"`  // constraint: "< 3.0.11-1"
	Fixed     string `json:"fixed"`     // version; empty: not fixed
}

// Build writes a database of a list as an archive that Import takes, in the form in which grype's own are
// published.
func Build(list List, archive string) error {
	dir, err := os.MkdirTemp(filepath.Dir(archive), "build-")
	if err != nil {
		return fmt.Errorf("folder for the database: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := fill(list, dir); err != nil {
		return err
	}
	return pack(filepath.Join(dir, v6.VulnerabilityDBFileName), archive)
}

func fill(list List, dir string) error {
	w, err := v6.NewWriter(v6.Config{DBDirPath: dir})
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	err = addAll(w, list)
	if err == nil && !list.Built.IsZero() {
		err = setBuilt(w, list.Built)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	return nil
}

func addAll(w v6.ReadWriter, list List) error {
	provider := &v6.Provider{ID: "slipway", Version: "1", Processor: "slipway-scanner"}
	for _, k := range list.Vulnerabilities {
		if k.ID == "" || k.Package == "" || k.Ecosystem == "" {
			return fmt.Errorf("a vulnerability needs id, package and ecosystem; %q of %q lacks one", k.ID, k.Package)
		}
		vuln := &v6.VulnerabilityHandle{
			Name: k.ID, Status: v6.VulnerabilityActive, Provider: provider,
			BlobValue: &v6.VulnerabilityBlob{ID: k.ID, Description: k.Title,
				Severities: []v6.Severity{{Scheme: v6.SeveritySchemeCHMLN, Value: strings.ToLower(k.Severity), Rank: 1}}},
		}
		if k.Link != "" {
			vuln.BlobValue.References = []v6.Reference{{URL: k.Link}}
		}
		if err := w.AddVulnerabilities(vuln); err != nil {
			return err
		}
		fix := &v6.Fix{State: v6.NotFixedStatus}
		if k.Fixed != "" {
			fix = &v6.Fix{State: v6.FixedStatus, Version: k.Fixed}
		}
		affected := &v6.AffectedPackageHandle{
			Vulnerability: vuln, VulnerabilityID: vuln.ID, Package: &v6.Package{Ecosystem: k.Ecosystem, Name: k.Package},
			BlobValue: &v6.PackageBlob{Ranges: []v6.Range{{Version: v6.Version{Type: versionType(k.Ecosystem), Constraint: k.Affected}, Fix: fix}}},
		}
		if k.Distro != "" {
			affected.OperatingSystem = operatingSystem(k.Distro)
		}
		if err := w.AddAffectedPackages(affected); err != nil {
			return err
		}
	}
	return nil
}

func versionType(ecosystem string) string {
	switch ecosystem {
	case "deb":
		return "dpkg"
	case "apk", "rpm", "python":
		return ecosystem
	case "go-module":
		return "go"
	}
	return "semver"
}

// operatingSystem reads "debian 12 bookworm" and "alpine 3.20".
func operatingSystem(s string) *v6.OperatingSystem {
	words := append(strings.Fields(s), "", "", "")
	major, minor, _ := strings.Cut(words[1], ".")
	return &v6.OperatingSystem{Name: words[0], ReleaseID: words[0], MajorVersion: major, MinorVersion: minor, Codename: words[2]}
}

// setBuilt is for databases that are to look old; grype's writer knows only now.
func setBuilt(w v6.ReadWriter, built time.Time) error {
	holder, ok := w.(interface{ GetDB() *gorm.DB })
	if !ok {
		return errors.New("the time of the database cannot be set")
	}
	return holder.GetDB().Model(&v6.DBMetadata{}).Where("true").Update("build_timestamp", built.UTC().Round(time.Second)).Error
}

func pack(file, archive string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(archive, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	z, err := zstd.NewWriter(out)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	tw := tar.NewWriter(z)
	err = tw.WriteHeader(&tar.Header{Name: v6.VulnerabilityDBFileName, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.Copy(tw, in)
	}
	if err := errors.Join(err, tw.Close(), z.Close(), out.Close()); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// ReadList reads a List as JSON; a field that it does not know is refused.
func ReadList(r io.Reader) (List, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var list List
	if err := dec.Decode(&list); err != nil {
		return list, fmt.Errorf("read the list: %w", err)
	}
	return list, nil
}
