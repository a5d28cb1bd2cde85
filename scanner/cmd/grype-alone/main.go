// Command grype-alone is what `make bench` compares the scanner with: syft and grype as libraries, in one process
// that has the database open, with nothing of Slipway around them. For each layout that is named on standard
// input it prints how many nanoseconds listing, matching and the SPDX document took, and how many matches there
// are.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/anchore/grype/grype/vulnerability"
	"github.com/anchore/stereoscope/pkg/file"
	"github.com/anchore/stereoscope/pkg/image/oci"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/format/spdxjson"
	"github.com/anchore/syft/syft/source/stereoscopesource"

	"github.com/slipway-cd/slipway/scanner"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, database string) error {
	folder, err := filepath.EvalSymlinks(filepath.Join(database, "current"))
	if err != nil {
		return err
	}
	reader, err := v6.NewReader(v6.Config{DBDirPath: folder})
	if err != nil {
		return err
	}
	provider := v6.NewVulnerabilityProvider(reader)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		began := time.Now()
		n, err := alone(ctx, in.Text(), provider)
		if err != nil {
			return err
		}
		fmt.Println(time.Since(began).Nanoseconds(), n)
	}
	return in.Err()
}

func alone(ctx context.Context, layout string, provider vulnerability.Provider) (int, error) {
	temp := file.NewTempDirGenerator("grype-alone")
	defer temp.Cleanup() //nolint:errcheck // a bench
	img, err := oci.NewDirectoryProvider(temp, layout).Provide(ctx)
	if err != nil {
		return 0, err
	}
	defer img.Cleanup() //nolint:errcheck // a bench
	doc, err := syft.CreateSBOM(ctx, stereoscopesource.New(img, stereoscopesource.ImageConfig{Reference: "bench"}), scanner.Catalogers())
	if err != nil {
		return 0, err
	}
	matches, err := scanner.Match(ctx, provider, doc)
	if err != nil {
		return 0, err
	}
	enc, err := spdxjson.NewFormatEncoderWithConfig(spdxjson.DefaultEncoderConfig())
	if err != nil {
		return 0, err
	}
	return len(matches), enc.Encode(io.Discard, *doc)
}
