package grype

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/subprocess"
)

const (
	maxFetch    = 2 * time.Hour // of one file of a mirror
	maxListing  = 1 << 20       // bytes of latest.json
	maxDownload = 8 << 30       // bytes of an archive
)

// Import takes a vulnerability database from a file: an archive as grype publishes them, or the .db file itself.
// checksum is sha256:... that it must have, empty for any; source is told to people, empty for the file's
// name. A file that is not whole is Invalid, and the database that is there stays.
func (g *Grype) Import(ctx context.Context, file, checksum, source string) (slipway.ScanDatabase, error) {
	return g.take(ctx, file, checksum, source, time.Time{})
}

// take is Import that refuses a database which was built before a time.
func (g *Grype) take(ctx context.Context, file, checksum, source string, notBefore time.Time) (slipway.ScanDatabase, error) {
	if g.opts.Program == "" {
		return slipway.ScanDatabase{}, slipway.Errorf(slipway.Unavailable, "%s", noProgram)
	}
	if g.opts.Database == "" {
		return slipway.ScanDatabase{}, slipway.Errorf(slipway.Invalid, "no folder for the vulnerability database is configured")
	}
	if checksum != "" && !checksumExpr.MatchString(checksum) {
		return slipway.ScanDatabase{}, slipway.Errorf(slipway.Invalid, "%q is not a checksum; write it as sha256: and 64 hexadecimal digits", checksum)
	}
	if source == "" {
		source = filepath.Base(file)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return slipway.ScanDatabase{}, fmt.Errorf("import %s: %w", file, err)
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return slipway.ScanDatabase{}, slipway.Errorf(slipway.Invalid, "import a vulnerability database: %s is not a file that can be read", file)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, g.opts.Time, slipway.ErrTimeout)
	defer cancel()
	args := []string{"db", "import", "--memory", fmt.Sprint(g.opts.Memory), "--nice", fmt.Sprint(niceness), "--dir", g.opts.Database, "--source", source}
	if checksum != "" {
		args = append(args, "--checksum", checksum)
	}
	if !notBefore.IsZero() {
		args = append(args, "--not-before", notBefore.UTC().Format(time.RFC3339Nano))
	}
	cmd := exec.CommandContext(ctx, g.opts.Program, append(args, "--", file)...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(g.opts.Temp, g.opts.Memory), "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, said := &subprocess.Head{Max: 64 << 10}, &subprocess.Head{Max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			return slipway.ScanDatabase{}, fmt.Errorf("import %s: %w", source, context.Cause(ctx))
		case errors.As(err, &exit) && exit.ExitCode() == 1:
			return slipway.ScanDatabase{}, slipway.Errorf(slipway.Invalid, "%s", oneLine(said.String()))
		}
		return slipway.ScanDatabase{}, slipway.Errorf(slipway.Unavailable, "import %s: the scanner ended: %v: %s", source, err, oneLine(said.String()))
	}
	var db database
	if err := json.Unmarshal([]byte(out.String()), &db); err != nil {
		return slipway.ScanDatabase{}, fmt.Errorf("read the scanner's answer: %w", err)
	}
	return db.noun(), nil
}

var checksumExpr = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Update brings the database up to date from a mirror and reports whether it changed. The mirror is a folder with
// latest.json and the archive that it names, as grype's own is laid out: an https URL, http on this machine only,
// or a folder or file of this machine. A URL of an archive is fetched each time. The checksum of latest.json is
// compared before anything is taken; what is there stays when something goes wrong, and when the mirror's is older. Only one Update may run at a
// time.
func (g *Grype) Update(ctx context.Context, mirror string) (bool, error) {
	u, err := url.Parse(mirror)
	if err != nil || u.Scheme == "" || filepath.IsAbs(mirror) {
		return g.updateFromFile(ctx, mirror)
	}
	if u.Scheme == "file" {
		return g.updateFromFile(ctx, u.Path)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return false, slipway.Errorf(slipway.Invalid, "the mirror of the vulnerability database %s: must be https; plain http is used on this machine (loopback) only", u.Redacted())
	}
	if archive(u.Path) {
		return g.fetch(ctx, u, u.Query().Get("checksum"))
	}
	if path.Ext(u.Path) != ".json" {
		u = u.JoinPath("latest.json")
	}
	body, err := g.get(ctx, u)
	if err != nil {
		return false, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxListing))
	if err != nil {
		return false, slipway.Errorf(slipway.Unavailable, "read %s: %w", u.Redacted(), err)
	}
	l, err := readListing(data, u.Redacted())
	if err != nil {
		return false, err
	}
	if l.Checksum == g.Database().Checksum {
		return false, nil
	}
	at, err := u.Parse(l.Path)
	if err != nil || at.Host != u.Host || at.Scheme != u.Scheme {
		return false, slipway.Errorf(slipway.Invalid, "%s names %q, which is not a file of the mirror", u.Redacted(), oneLine(l.Path))
	}
	return g.fetch(ctx, at, l.Checksum)
}

// listing is grype's latest.json.
type listing struct {
	Schema   string `json:"schemaVersion"`
	Path     string `json:"path"`
	Checksum string `json:"checksum"`
}

func readListing(data []byte, name string) (listing, error) {
	var l listing
	if err := json.Unmarshal(data, &l); err != nil {
		return l, slipway.Errorf(slipway.Invalid, "%s is not a listing of vulnerability databases: %w", name, err)
	}
	if l.Path == "" || !checksumExpr.MatchString(l.Checksum) {
		return l, slipway.Errorf(slipway.Invalid, "%s names no database with a sha256 checksum", name)
	}
	if l.Schema != "" && !strings.HasPrefix(strings.TrimPrefix(l.Schema, "v"), "6.") {
		return l, slipway.Errorf(slipway.Invalid, "%s names a database of schema %s; this scanner reads schema 6 (mirror .../databases/v6)", name, oneLine(l.Schema))
	}
	return l, nil
}

func (g *Grype) updateFromFile(ctx context.Context, name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, slipway.Errorf(slipway.Unavailable, "the vulnerability database %s cannot be read: %w", name, err)
	}
	if info.IsDir() {
		name = filepath.Join(name, "latest.json")
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return false, slipway.Errorf(slipway.Invalid, "the folder %s is no mirror of the vulnerability database: it has no latest.json", filepath.Dir(name))
		}
	}
	checksum := ""
	if filepath.Ext(name) == ".json" {
		data, err := readBounded(name)
		if err != nil {
			return false, slipway.Errorf(slipway.Unavailable, "%w", err)
		}
		l, err := readListing(data, name)
		if err != nil {
			return false, err
		}
		if !filepath.IsLocal(filepath.FromSlash(l.Path)) {
			return false, slipway.Errorf(slipway.Invalid, "%s names %q, which is not a file beside it", name, oneLine(l.Path))
		}
		name, checksum = filepath.Join(filepath.Dir(name), filepath.FromSlash(l.Path)), l.Checksum
	} else if checksum, err = checksumOf(ctx, name); err != nil {
		return false, err
	}
	if checksum == g.Database().Checksum {
		return false, nil
	}
	_, err = g.take(ctx, name, checksum, name, g.Database().Built)
	return err == nil, err
}

func checksumOf(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "the vulnerability database %s cannot be read: %w", name, err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() }) //nolint:errcheck // the read then fails
	defer stop()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// fetch downloads an archive beside the database and imports it.
func (g *Grype) fetch(ctx context.Context, u *url.URL, checksum string) (bool, error) {
	if err := os.MkdirAll(g.opts.Database, 0o700); err != nil {
		return false, fmt.Errorf("folder of the database: %w", err)
	}
	body, err := g.get(ctx, u)
	if err != nil {
		return false, err
	}
	defer body.Close()
	old, _ := filepath.Glob(filepath.Join(g.opts.Database, "download-*")) // of a process that was killed
	for _, name := range old {
		os.Remove(name) //nolint:errcheck // it is only in the way of the disk
	}
	f, err := os.CreateTemp(g.opts.Database, "download-*"+path.Ext(u.Path))
	if err != nil {
		return false, fmt.Errorf("folder of the database: %w", err)
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(body, maxDownload+1))
	if err := errors.Join(err, f.Close()); err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, slipway.Errorf(slipway.Unavailable, "download %s: %w", u.Redacted(), err)
	}
	if n > maxDownload {
		return false, slipway.Errorf(slipway.Invalid, "%s is larger than %d GiB", u.Redacted(), int64(maxDownload)>>30)
	}
	got := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if checksum != "" && got != checksum {
		return false, slipway.Errorf(slipway.Unavailable, "download %s: its checksum is %s, not %s: it did not come in full, or was altered", u.Redacted(), got, oneLine(checksum))
	}
	if got == g.Database().Checksum {
		return false, nil
	}
	_, err = g.take(ctx, f.Name(), got, u.Redacted(), g.Database().Built)
	return err == nil, err
}

// get asks a mirror for a file. One that sends nothing for Options.Stall is given up: who waits for it looks at nothing
// else.
func (g *Grype) get(parent context.Context, u *url.URL) (io.ReadCloser, error) {
	stalled := slipway.Errorf(slipway.Unavailable, "the mirror of the vulnerability database %s has sent nothing for %s", u.Redacted(), g.opts.Stall)
	ctx, cancel := context.WithCancelCause(parent)
	ctx, stop := context.WithTimeoutCause(ctx, maxFetch, slipway.Errorf(slipway.Unavailable, "the mirror of the vulnerability database %s took longer than %s", u.Redacted(), maxFetch))
	idle := time.AfterFunc(g.opts.Stall, func() { cancel(stalled) })
	end := func() {
		idle.Stop()
		stop()
		cancel(nil)
	}
	body, err := g.open(ctx, u)
	if err != nil {
		defer end()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return &download{ReadCloser: body, ctx: ctx, more: func() { idle.Reset(g.opts.Stall) }, end: end}, nil
}

// download is a file that comes.
type download struct {
	io.ReadCloser
	ctx       context.Context //nolint:containedctx // of one request
	more, end func()
}

// Read implements io.Reader. That it was given up is its error.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if n > 0 {
		d.more()
	}
	if err != nil && !errors.Is(err, io.EOF) && d.ctx.Err() != nil {
		err = context.Cause(d.ctx)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	defer d.end()
	return d.ReadCloser.Close()
}

func (g *Grype) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "the mirror of the vulnerability database: %w", err)
	}
	req.Header.Set("User-Agent", "slipway")
	client := http.Client{Transport: g.opts.Transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 || (req.URL.Scheme != "https" && !loopback(req.URL.Hostname())) {
			return errors.New("is redirected to where it may not be")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, slipway.Errorf(slipway.Unavailable, "the mirror of the vulnerability database %s does not answer: %v; check that it can be reached from the Slipway server", u.Redacted(), err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, slipway.Errorf(slipway.Unavailable, "the mirror of the vulnerability database answers %s for %s", resp.Status, u.Redacted())
	}
	return resp.Body, nil
}

func loopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

func archive(name string) bool {
	for _, ext := range []string{".db", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}
