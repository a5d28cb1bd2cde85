package scan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Bounds of the reports of other scanners.
const (
	maxReport   = 64 << 20 // bytes of one file
	maxFindings = 50_000   // of all files together
	maxText     = 300      // bytes of a text for people
)

// reports takes the findings of other scanners' files. A file that is missing, too large or of another kind
// is Invalid: nothing passes because nothing could be read.
func (r Runner) reports(env stage.Env, step slipway.PlanStep, tree string) (slipway.Scan, error) {
	results, err := env.Workspace.Dir("test-results-" + step.Service)
	if err != nil {
		return slipway.Scan{}, fmt.Errorf("folder of the test results: %w", err)
	}
	folders := []string{filepath.Join(tree, filepath.FromSlash(step.Scan.Source.Dir)), results}
	out := slipway.Scan{Image: step.Scan.Image.Ref(), ScannedAt: now(env), Findings: []slipway.Finding{}}
	var tools []string
	for _, name := range step.Scan.Reports {
		data, err := readReport(folders, name)
		if err != nil {
			return out, err
		}
		rep, err := ParseReport(data)
		if err != nil {
			return out, slipway.Errorf(slipway.Invalid, "scan report %s: %s", name, err)
		}
		if len(out.Findings)+len(rep.Findings) > maxFindings {
			return out, slipway.Errorf(slipway.Invalid, "scan report %s: there are more than %d findings; write only those of the image", name, maxFindings)
		}
		env.Log.Printf("%s: %s of %s", name, slipway.Counted(len(rep.Findings), "finding"), rep.Scanner)
		for i := range rep.Findings {
			if f := &rep.Findings[i]; f.Dismissed != "" {
				f.Dismissed += " (" + oneLine(name) + ")"
			}
		}
		out.Findings = append(out.Findings, rep.Findings...)
		out.Packages += rep.Packages
		tools = append(tools, rep.Scanner+" ("+name+")")
	}
	out.Scanner = strings.Join(tools, ", ")
	return out, nil
}

// readReport reads a file from the first folder that has it; links that lead out of a folder are refused.
func readReport(folders []string, name string) ([]byte, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return nil, slipway.Errorf(slipway.Invalid, "scan report %q is outside of the service's folder", name)
	}
	for _, dir := range folders {
		data, err := readIn(dir, filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, slipway.Errorf(slipway.Invalid, "scan report %s: %s", name, err)
		}
		return data, nil
	}
	return nil, slipway.Errorf(slipway.Invalid, "scan report %s is neither in the service's folder nor among the results of its tests; have the tests write it to $SLIPWAY_TEST_RESULTS, or remove it from scan.reports in slipway.yaml", name)
}

func readIn(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err == nil && len(data) > maxReport {
		return nil, fmt.Errorf("is larger than %d MiB", maxReport>>20)
	}
	return data, err
}

// ParseReport reads a report of another scanner: SARIF 2.1.0 or CycloneDX JSON. Scanner, Packages and
// Findings of the result are set; texts in it are bounded, links are https.
func ParseReport(data []byte) (slipway.Scan, error) {
	var kind struct {
		BOMFormat string          `json:"bomFormat"`
		Version   string          `json:"version"`
		Runs      json.RawMessage `json:"runs"`
	}
	var number struct {
		BOMFormat string `json:"bomFormat"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		// CycloneDX has a number where SARIF has a text.
		if json.Unmarshal(data, &number) != nil {
			return slipway.Scan{}, fmt.Errorf("is not JSON: %w", err)
		}
		kind.BOMFormat = number.BOMFormat
	}
	switch {
	case kind.BOMFormat == "CycloneDX":
		return parseCycloneDX(data)
	case kind.BOMFormat == "" && strings.HasPrefix(kind.Version, "2.1") && kind.Runs != nil:
		return parseSARIF(data)
	}
	return slipway.Scan{}, errors.New("is neither SARIF 2.1.0 nor CycloneDX JSON; have the scanner write one of the two")
}

// dismissal is a state with what is said of it, on a line.
func dismissal(state, justification, detail string) string {
	for _, more := range []struct{ join, text string }{{", ", justification}, {": ", detail}} {
		if more.text != "" {
			state += more.join + more.text
		}
	}
	return oneLine(state)
}

// oneLine bounds a text of a report and puts it on a line.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}

// httpsOnly is the link, or nothing when it is one that a page must not show.
func httpsOnly(link string) string {
	u, err := url.Parse(strings.TrimSpace(link))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(link) > 2000 {
		return ""
	}
	return u.String()
}

// severityOf reads the names that scanners have for severities.
func severityOf(s string) slipway.Severity {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "critical":
		return slipway.SeverityCritical
	case "high", "error":
		return slipway.SeverityHigh
	case "medium", "moderate", "warning":
		return slipway.SeverityMedium
	case "low", "note":
		return slipway.SeverityLow
	case "negligible", "info", "informational", "none":
		return slipway.SeverityNegligible
	}
	return slipway.SeverityUnknown
}

// severityOfScore reads a CVSS score.
func severityOfScore(score float64) slipway.Severity {
	switch {
	case score >= 9:
		return slipway.SeverityCritical
	case score >= 7:
		return slipway.SeverityHigh
	case score >= 4:
		return slipway.SeverityMedium
	case score > 0:
		return slipway.SeverityLow
	}
	return slipway.SeverityNegligible
}
