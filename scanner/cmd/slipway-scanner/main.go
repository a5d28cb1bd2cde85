// Command slipway-scanner looks into container images and folders for Slipway, which runs it as a child
// process: see the package scanner.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway/scanner"
)

const usage = `slipway-scanner looks into container images for Slipway.

  slipway-scanner serve                      answer requests (JSON) on standard input
  slipway-scanner scan --layout DIR|FILE     scan an OCI image layout; the answer is JSON
  slipway-scanner scan --folder DIR          look for secrets in a folder
  slipway-scanner db status --dir DIR        which vulnerability database a folder holds
  slipway-scanner db import --dir DIR FILE   take a database of grype (.db, .tar.zst, .tar.gz, .tar.xz)
  slipway-scanner db build LIST.json FILE    make a small database for tests (FILE: .tar.zst)
  slipway-scanner version
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1) //nolint:gocritic // nothing is deferred but stop
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if command == "db" && len(args) > 0 {
		command, args = "db "+args[0], args[1:]
	}
	switch command {
	case "version":
		_, err := fmt.Fprintln(out, scanner.Version())
		return err
	case "serve":
		return serve(ctx, args, in, out)
	case "scan":
		return scan(ctx, args, out)
	case "db status":
		return status(args, out)
	case "db import":
		return importFile(ctx, args, out)
	case "db build":
		return build(args)
	case "", "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("unknown command %q\n%s", command, usage)
}

func bounds(f *flag.FlagSet) *scanner.Bounds {
	var b scanner.Bounds
	f.Uint64Var(&b.Memory, "memory", 0, "bytes of data that the process may have")
	f.Uint64Var(&b.File, "file-size", 0, "bytes of one file that it may write")
	f.IntVar(&b.Nice, "nice", 0, "niceness of the process")
	return &b
}

func serve(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	b := bounds(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := scanner.Bound(*b); err != nil {
		return err
	}
	return scanner.Serve(ctx, in, out)
}

func scan(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("scan", flag.ContinueOnError)
	b := bounds(f)
	var req scanner.Request
	f.StringVar(&req.Layout, "layout", "", "OCI image layout: a folder or a tar archive")
	f.StringVar(&req.Folder, "folder", "", "folder to look for secrets in")
	f.StringVar(&req.Name, "name", "", "name of the image in the documents")
	f.StringVar(&req.Digest, "digest", "", "digest of the image, where the layout has several")
	f.StringVar(&req.Database, "database", "", "folder of the vulnerability database")
	f.StringVar(&req.Output, "output", "", "folder for the SBOM")
	f.BoolVar(&req.CycloneDX, "cyclonedx", false, "write the SBOM as CycloneDX too")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := scanner.Bound(*b); err != nil {
		return err
	}
	s, err := scanner.New()
	if err != nil {
		return err
	}
	a := s.Scan(ctx, req, func(string) {})
	if err := encode(out, a); err != nil {
		return err
	}
	if why := a.Refused + a.Error; why != "" {
		return errors.New(why)
	}
	return nil
}

func status(args []string, out io.Writer) error {
	f := flag.NewFlagSet("db status", flag.ContinueOnError)
	dir := f.String("dir", "", "folder of the database")
	if err := f.Parse(args); err != nil {
		return err
	}
	return encode(out, scanner.Status(*dir))
}

func importFile(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("db import", flag.ContinueOnError)
	b := bounds(f)
	dir := f.String("dir", "", "folder of the database")
	opts := scanner.ImportOptions{Now: time.Now}
	f.StringVar(&opts.Checksum, "checksum", "", "sha256:... that the file must have")
	f.Func("not-before", "refuse a database that was built before this time (RFC 3339)", func(s string) (err error) {
		opts.NotBefore, err = time.Parse(time.RFC3339Nano, s)
		return err
	})
	f.StringVar(&opts.Source, "source", "", "where the file is from, for people")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *dir == "" || f.NArg() != 1 {
		return errors.New("usage: slipway-scanner db import --dir DIR [--checksum sha256:...] FILE")
	}
	if err := scanner.Bound(*b); err != nil {
		return err
	}
	db, err := scanner.Import(ctx, *dir, f.Arg(0), opts)
	if err != nil {
		return err
	}
	return encode(out, db)
}

func build(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: slipway-scanner db build LIST.json FILE.tar.zst")
	}
	in, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := scanner.ReadList(in)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(args[0]), err)
	}
	return scanner.Build(list, args[1])
}

func encode(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
