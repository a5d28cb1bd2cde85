// Package grype runs slipway-scanner, the program that lists the packages of an image with syft, looks them up
// with grype and finds secrets. It reads hostile content: it runs as a process of its own, with bounded memory,
// time, disk and output, an empty environment and no credentials. Images are files when they come here; the
// only thing that is fetched is the vulnerability database.
//
// It does not link grype, judges no finding and keeps no scan.
package grype

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/subprocess"
	"github.com/slipway-cd/slipway/stage/scan"
)

// Options are what may be left out.
type Options struct {
	// Program is slipway-scanner. Empty: there is none, and every scan says so.
	Program string
	// Database is the folder of the vulnerability database. Empty: none.
	Database string
	// Temp is a folder of this driver alone; New empties it. Default: one of its own in the system's.
	Temp string
	// Time bounds one scan; default 10 minutes.
	Time time.Duration
	// Memory bounds the data of one process in bytes; default 3 GiB.
	Memory uint64
	// Disk bounds what one process may unpack, in bytes; default 12 GiB.
	Disk int64
	// Processes is how many scans run at once; default 2. More wait.
	Processes int
	// Spare is how long a process waits for the next scan; default 1 minute.
	Spare time.Duration
	// Stall is how long a mirror may send nothing; default 1 minute.
	Stall time.Duration
	// Transport fetches databases; default http.DefaultTransport.
	Transport http.RoundTripper
	Now       func() time.Time
}

// Grype is a scan.Scanner. It is safe for concurrent use.
type Grype struct {
	opts  Options
	turns chan struct{}
	spare subprocess.Spare[*worker]

	asking  chan struct{} // held by who runs the program for its version
	mu      sync.Mutex
	version string // of the program with that state
	stat    string
}

// New makes a scanner. It runs nothing yet.
func New(opts Options) (*Grype, error) {
	if opts.Time <= 0 {
		opts.Time = 10 * time.Minute
	}
	if opts.Memory == 0 {
		opts.Memory = 3 << 30
	}
	if opts.Disk <= 0 {
		opts.Disk = 12 << 30
	}
	if opts.Processes <= 0 {
		opts.Processes = 2
	}
	if opts.Spare <= 0 {
		opts.Spare = time.Minute
	}
	if opts.Stall <= 0 {
		opts.Stall = time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Temp == "" {
		dir, err := os.MkdirTemp("", "slipway-scan-")
		if err != nil {
			return nil, fmt.Errorf("folder for scans: %w", err)
		}
		opts.Temp = dir
	}
	if err := errors.Join(os.RemoveAll(opts.Temp), os.MkdirAll(opts.Temp, 0o700)); err != nil {
		return nil, fmt.Errorf("folder for scans: %w", err)
	}
	return &Grype{opts: opts, turns: make(chan struct{}, opts.Processes), asking: make(chan struct{}, 1), spare: subprocess.Spare[*worker]{Wait: opts.Spare}}, nil
}

// Close ends the process that waits and removes the folder for scans. Scans under way are not ended.
func (g *Grype) Close() error {
	if w, ok := g.spare.Take(); ok {
		w.End()
	}
	return os.RemoveAll(g.opts.Temp)
}

// ProgramName is what the program is called.
const ProgramName = "slipway-scanner"

// Find returns the scanner: the program that is named, else the one beside this program, else the one in PATH;
// "" when there is none. A program that is named and not there is Invalid.
func Find(named string) (string, error) {
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", slipway.Errorf(slipway.Invalid, "the scanner %s cannot be run: %v; build it with make build, or leave --scanner out", named, err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), ProgramName)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(ProgramName)
	if err != nil {
		return "", nil //nolint:nilerr // there is none, which is no error
	}
	return filepath.Abs(path)
}

const noProgram = "the program " + ProgramName + " is not installed: put it beside slipway, or name it with --scanner"

// State implements scan.Scanner. The program is asked for its version once.
func (g *Grype) State(ctx context.Context) (scan.State, error) {
	if g.opts.Program == "" {
		return scan.State{Scanner: "none", Database: slipway.ScanDatabase{Missing: noProgram}}, nil
	}
	version, err := g.versionOf(ctx)
	if err != nil {
		return scan.State{}, err
	}
	return scan.State{Scanner: version, Database: g.Database()}, nil
}

func (g *Grype) versionOf(ctx context.Context) (string, error) {
	info, err := os.Stat(g.opts.Program)
	if err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "the scanner %s is not there any more: %w", g.opts.Program, err)
	}
	stat := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	if version, ok := g.known(stat); ok {
		return version, nil
	}
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if version, ok := g.known(stat); ok { // who went before has asked
		return version, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.opts.Program, "version")
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(os.TempDir(), 0), "/", time.Second
	out := &subprocess.Head{Max: 1 << 10}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", slipway.Errorf(slipway.Unavailable, "ask the scanner %s for its version: %w", g.opts.Program, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version, g.stat = oneLine(out.String()), stat
	return g.version, nil
}

// known is the version of the program in a state, false when it was not asked yet.
func (g *Grype) known(stat string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.version, g.stat == stat
}

// Database says which vulnerability database there is; its field Missing says why there is none.
func (g *Grype) Database() slipway.ScanDatabase {
	if g.opts.Database == "" {
		return slipway.ScanDatabase{Missing: "no vulnerability database is configured"}
	}
	data, err := os.ReadFile(filepath.Join(g.opts.Database, "current", "about.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return slipway.ScanDatabase{Missing: "no vulnerability database was imported: name a mirror with serve --scan-database, or run slipway scan db import"}
	}
	var db database
	if err == nil {
		err = json.Unmarshal(data, &db)
	}
	if err == nil {
		err = db.whole(filepath.Join(g.opts.Database, "current", "vulnerability.db"))
	}
	if err != nil {
		return slipway.ScanDatabase{Missing: fmt.Sprintf("the vulnerability database cannot be read: %v; import it again", err)}
	}
	return db.noun()
}

// database is what the program says and keeps about one.
type database struct {
	Built    time.Time `json:"built"`
	Checksum string    `json:"checksum"`
	Source   string    `json:"source"`
	Size     int64     `json:"size"`
	Missing  string    `json:"missing"`
}

func (d database) noun() slipway.ScanDatabase {
	return slipway.ScanDatabase{Built: d.Built, Checksum: d.Checksum, Source: d.Source, Missing: d.Missing}
}

func (d database) whole(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() != d.Size {
		return fmt.Errorf("it has %d bytes and not %d, as it had when it was imported", info.Size(), d.Size)
	}
	return nil
}

type request struct {
	Layout    string `json:"layout,omitempty"`
	Name      string `json:"name,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Database  string `json:"database,omitempty"`
	Output    string `json:"output,omitempty"`
	CycloneDX bool   `json:"cyclonedx,omitempty"`
	Folder    string `json:"folder,omitempty"`
}

type answer struct {
	Progress string            `json:"progress"`
	Digest   string            `json:"digest"`
	Packages int               `json:"packages"`
	Distro   string            `json:"distro"`
	Findings []slipway.Finding `json:"findings"`
	Database database          `json:"database"`
	Problems []string          `json:"problems"`
	Refused  string            `json:"refused"`
	Error    string            `json:"error"`
}

// Image implements scan.Scanner.
func (g *Grype) Image(ctx context.Context, req scan.Request) (scan.Report, error) {
	state, err := g.State(ctx)
	if err != nil {
		return scan.Report{}, err
	}
	rep := scan.Report{Scan: slipway.Scan{Image: req.Name, Digest: req.Digest, Scanner: state.Scanner, Database: state.Database, Findings: []slipway.Finding{}}}
	unscanned := func(why string) (scan.Report, error) {
		rep.Scan.Problems = []string{fmt.Sprintf("image %s was not scanned: %s", nameOf(req), why)}
		return rep, nil
	}
	if g.opts.Program == "" {
		return unscanned(noProgram)
	}
	out, err := os.MkdirTemp(g.opts.Temp, "out-")
	if err != nil {
		return rep, fmt.Errorf("folder for the scan: %w", err)
	}
	defer os.RemoveAll(out)
	a, err := g.ask(ctx, request{Layout: req.Layout, Name: req.Name, Digest: req.Digest, Database: g.opts.Database, Output: out, CycloneDX: req.CycloneDX}, req.Progress)
	if err != nil {
		return rep, err
	}
	if a.Refused != "" {
		rep.Scan.Refused = true
		return unscanned(a.Refused)
	}
	rep.Scan.Digest, rep.Scan.Packages, rep.Scan.Distro, rep.Scan.Problems = a.Digest, a.Packages, a.Distro, a.Problems
	rep.Scan.Database, rep.Scan.Findings = a.Database.noun(), append(rep.Scan.Findings, a.Findings...)
	if rep.SBOM, err = readBounded(filepath.Join(out, "sbom.spdx.json")); err != nil {
		return rep, err
	}
	if req.CycloneDX {
		rep.CycloneDX, err = readBounded(filepath.Join(out, "sbom.cdx.json"))
	}
	return rep, err
}

func nameOf(req scan.Request) string {
	if req.Digest == "" {
		return req.Name
	}
	return req.Name + "@" + req.Digest
}

// Folder implements scan.Scanner.
func (g *Grype) Folder(ctx context.Context, dir string) (scan.Secrets, error) {
	if g.opts.Program == "" {
		return scan.Secrets{Problems: []string{"no secrets were looked for: " + noProgram}}, nil
	}
	a, err := g.ask(ctx, request{Folder: dir}, nil)
	if err != nil {
		return scan.Secrets{}, err
	}
	if a.Refused != "" {
		return scan.Secrets{Problems: []string{"the folder was not searched for secrets: " + a.Refused}}, nil
	}
	return scan.Secrets{Findings: a.Findings, Problems: a.Problems}, nil
}

// maxDocument bounds an SBOM.
const maxDocument = 128 << 20

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the scanner's document: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read the scanner's document: %w", err)
	}
	if len(data) > maxDocument {
		return nil, slipway.Errorf(slipway.Invalid, "the SBOM is larger than %d MiB", maxDocument>>20)
	}
	return data, nil
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}
