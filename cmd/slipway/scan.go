package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/stage/scan"
)

// scanFlags are the flags of scan and of its database.
type scanFlags struct {
	output, scanner, data, registry, platform, failOn, checksum string
	all                                                         bool
}

// findingsShown is how many findings of an image are shown unless all are asked for.
const findingsShown = 50

func (c *cli) scanImage() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use: "scan IMAGE", Short: "Packages, known vulnerabilities and secrets of an image", Args: cobra.ExactArgs(1),
		Long: "Scans an image here, as the server does it in a run: an OCI layout (a folder or a tar archive of one) needs no\n" +
			"server; else a tag or a digest of the server's registry (shop/delivery:v1.0.2) or another one\n" +
			"(docker.io/library/debian:12). Vulnerabilities are those of the database in the data folder: see\n" +
			"`slipway scan db`. Of an image for several platforms each is scanned, and findings say on which they are; of an\n" +
			"archive, only this machine's. With --output spdx or cyclonedx the SBOM is written instead. The exit status is 1 when\n" +
			"--fail-on is reached or, without a database, cannot be judged, and when the image could not be scanned in full.",
		RunE: func(cmd *cobra.Command, args []string) error { return c.runScan(cmd.Context(), args[0], f) },
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "output format: text, json, spdx or cyclonedx")
	cmd.Flags().StringVar(&f.registry, "registry", "", "URL at which the registry is reached, when that is not its name in IMAGE")
	cmd.Flags().StringVar(&f.platform, "platform", "", "of an image for several platforms, only that one, such as linux/arm64 (default: all)")
	cmd.Flags().StringVar(&f.failOn, "fail-on", string(slipway.SeverityNone), "exit with 1 for this severity and worse: critical, high, medium, low or none")
	cmd.Flags().BoolVar(&f.all, "all", false, "show every finding")
	cmd.PersistentFlags().StringVar(&f.scanner, "scanner", "", "program that scans images (default: slipway-scanner beside this one, else in PATH)")
	cmd.PersistentFlags().StringVar(&f.data, "data", "slipway-data", "data folder of the server, which holds the vulnerability database")
	db := &cobra.Command{Use: "db", Short: "The vulnerability database", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	db.AddCommand(c.scanDatabaseStatus(&f), c.scanDatabaseImport(&f))
	cmd.AddCommand(db)
	return cmd
}

func (c *cli) openScanner(f scanFlags) (*grype.Grype, error) {
	program, err := grype.Find(f.scanner)
	if err != nil {
		return nil, err
	}
	data, err := filepath.Abs(f.data)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	return grype.New(grype.Options{Program: program, Database: filepath.Join(data, "vulnerabilities")})
}

func (c *cli) runScan(ctx context.Context, image string, f scanFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	c.out = newPrinter(c.out.w, f.output == "json")
	g, err := c.openScanner(f)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := g.Close(); err == nil {
			err = cerr
		}
	}()
	work, err := os.MkdirTemp("", "slipway-image-")
	if err != nil {
		return fmt.Errorf("folder for the image: %w", err)
	}
	defer os.RemoveAll(work)
	of, err := c.targets(ctx, image, work, f)
	if err != nil {
		return err
	}
	rep, err := c.scanTargets(ctx, g, of, f)
	if err != nil {
		return err
	}
	if rep.Scan.Image == "" {
		rep.Scan.Image = image
	}
	return c.showScan(rep, f)
}

// scanTargets scans one image after the other; its layout goes before the next is fetched.
func (c *cli) scanTargets(ctx context.Context, g *grype.Grype, of targets, f scanFlags) (scan.Report, error) {
	var rep scan.Report
	var names []string
	var scans []slipway.Scan
	for _, t := range of.list {
		req, done, err := t.open(ctx)
		if err != nil {
			return rep, err
		}
		req.CycloneDX = f.output == "cyclonedx"
		rep, err = g.Image(ctx, req)
		if err := errors.Join(err, done()); err != nil {
			return rep, err
		}
		scan.Sort(rep.Scan.Findings)
		names, scans = append(names, first(t.platform, shortDigest(rep.Scan.Digest))), append(scans, rep.Scan)
	}
	rep.Scan = scan.Platforms(names, scans)
	if len(scans) > 1 {
		rep.Scan.Digest = of.digest
	}
	rep.Scan.ScannedAt = time.Now().UTC()
	return rep, nil
}

func (f scanFlags) check() error {
	switch f.output {
	case "text", "json", "spdx", "cyclonedx":
	default:
		return slipway.Errorf(slipway.Invalid, "--output %q: expected text, json, spdx or cyclonedx", f.output)
	}
	switch slipway.Severity(f.failOn) {
	case slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNone:
		return nil
	}
	return slipway.Errorf(slipway.Invalid, "--fail-on %q: expected critical, high, medium, low or none", f.failOn)
}

func (c *cli) showScan(rep scan.Report, f scanFlags) error {
	unknown := rep.Scan.Database.Missing != "" && slipway.Severity(f.failOn) != slipway.SeverityNone
	failed := len(rep.Scan.Problems) > 0 || unknown || rep.Scan.Database.Unreadable()
	for _, x := range rep.Scan.Findings {
		failed = failed || x.Severity.AtLeast(slipway.Severity(f.failOn))
	}
	if err := c.writeScan(rep, f); err != nil {
		return err
	}
	if failed {
		return errQuiet
	}
	return nil
}

func (c *cli) writeScan(rep scan.Report, f scanFlags) error {
	document := map[string][]byte{"spdx": rep.SBOM, "cyclonedx": rep.CycloneDX}
	if text, ok := document[f.output]; ok {
		if len(text) == 0 {
			return slipway.Errorf(slipway.Invalid, "there is no SBOM: %s", strings.Join(rep.Scan.Problems, "; "))
		}
		_, err := c.out.w.Write(append(text, '\n'))
		return err
	}
	if done, err := c.out.value(rep.Scan); done || err != nil {
		return err
	}
	c.out.line("%s", c.out.bold(slipway.Printable(strings.TrimSuffix(rep.Scan.Image+"@"+rep.Scan.Digest, "@"))))
	if rep.Scan.Distro != "" {
		c.out.line("%s", slipway.Printable(rep.Scan.Distro))
	}
	if len(rep.Scan.Platforms) > 0 {
		c.out.line("for %s", slipway.Printable(strings.Join(rep.Scan.Platforms, ", ")))
	}
	c.databaseLine(rep.Scan.Database)
	var rows [][]string
	for i, x := range rep.Scan.Findings {
		if i == findingsShown && !f.all {
			break
		}
		row := findingRow(x)
		if len(rep.Scan.Platforms) > 0 {
			row = append(row, platformsOf(x, rep.Scan))
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		head := []string{"SEVERITY", "FINDING", "PACKAGE", "FIXED IN", "PLACE"}
		if len(rep.Scan.Platforms) > 0 {
			head = append(head, "ON")
		}
		c.out.table(head, rows)
	}
	if n := len(rep.Scan.Findings) - len(rows); n > 0 {
		c.out.line("and %d more: --all shows them", n)
	}
	for _, p := range rep.Scan.Problems {
		c.out.line("%s", slipway.Printable(p))
	}
	c.out.line("%s", scan.Summary(rep.Scan))
	return nil
}

func findingRow(x slipway.Finding) []string {
	what, place := strings.TrimSpace(x.Package+" "+x.Version), x.Path
	if x.Kind == slipway.FindingSecret {
		what = x.Title
	}
	if x.Line > 0 {
		place = fmt.Sprintf("%s:%d", x.Path, x.Line)
	}
	return []string{string(x.Severity), slipway.Printable(x.ID), slipway.Printable(what), slipway.Printable(first(x.FixedIn, "-")), slipway.Printable(place)}
}

func (c *cli) databaseLine(db slipway.ScanDatabase) {
	if db.Missing != "" {
		c.out.line("no vulnerability can be found: %s", slipway.Printable(db.Missing))
		return
	}
	c.out.line("vulnerability database of %s, from %s", db.Built.UTC().Format("2006-01-02 15:04"), slipway.Printable(db.Source))
}

func (c *cli) scanDatabaseStatus(f *scanFlags) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Which vulnerability database there is, and how old it is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			g, err := c.openScanner(*f)
			if err != nil {
				return err
			}
			db := g.Database()
			if err := g.Close(); err != nil {
				return err
			}
			if done, err := c.out.value(db); done || err != nil {
				return err
			}
			c.databaseLine(db)
			if db.Missing == "" {
				c.out.line("checksum %s", db.Checksum)
			}
			return nil
		},
	}
}

func (c *cli) scanDatabaseImport(f *scanFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE|URL", Short: "Take a vulnerability database, from a file or a mirror", Args: cobra.ExactArgs(1),
		Long: "Takes a database of grype (schema 6) in place of the one in the data folder: an archive (.tar.zst, .tar.gz,\n" +
			".tar.xz) or its .db file, a folder with latest.json, or the URL of one of them. What is not whole is refused, and\n" +
			"the database that is there stays. A server that runs takes the new one within a minute.",
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := c.openScanner(*f)
			if err != nil {
				return err
			}
			defer g.Close() //nolint:errcheck // nothing runs any more
			changed, err := takeDatabase(cmd.Context(), g, args[0], f.checksum)
			if err != nil {
				return err
			}
			db := g.Database()
			if done, err := c.out.value(db); done || err != nil {
				return err
			}
			if !changed {
				c.out.line("nothing has changed")
			}
			c.databaseLine(db)
			return nil
		},
	}
	cmd.Flags().StringVar(&f.checksum, "checksum", "", "sha256:... that the file must have")
	return cmd
}

func takeDatabase(ctx context.Context, g *grype.Grype, from, checksum string) (bool, error) {
	if info, err := os.Stat(from); err == nil && info.Mode().IsRegular() && filepath.Ext(from) != ".json" {
		_, err := g.Import(ctx, from, checksum, "")
		return err == nil, err
	}
	if checksum != "" {
		return false, slipway.Errorf(slipway.Invalid, "--checksum is for a file; a mirror's latest.json has its own, and a URL may end in ?checksum=sha256:...")
	}
	return g.Update(ctx, from)
}
