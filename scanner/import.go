package scanner

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxDatabase bounds a database, unpacked.
const maxDatabase = 16 << 30

// ImportOptions are the choices that Import leaves open.
type ImportOptions struct {
	Checksum string // sha256:... that the file must have; empty: any
	Source   string // what is told about where it is from; empty: the file's name
	// NotBefore refuses a database that was built before it; zero: any.
	NotBefore time.Time
	Now       func() time.Time
}

// Import takes a vulnerability database of grype (schema 6) in place of the one that dir holds: a .db file, or a
// .tar.zst, .tar.gz, .tar.xz or .tar archive of one. The file is copied, compared with its checksum, opened
// and checked before it takes the old one's place in one step, so that a scan sees the one or the other. A file
// that is not whole is refused with the reason, and the old database stays. Only one Import may run at a time
// on a folder; the second is refused.
func Import(ctx context.Context, dir, file string, opts ImportOptions) (Database, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Database{}, fmt.Errorf("folder of the database: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return Database{}, err
	}
	defer unlock()
	if err := leftovers(dir); err != nil {
		return Database{}, err
	}
	work, err := os.MkdirTemp(dir, "import-")
	if err != nil {
		return Database{}, fmt.Errorf("folder of the database: %w", err)
	}
	defer os.RemoveAll(work)
	checksum, err := extract(ctx, file, filepath.Join(work, v6.VulnerabilityDBFileName), opts.Checksum)
	if err != nil {
		return Database{}, fmt.Errorf("import %s: %w", filepath.Base(file), err)
	}
	db, err := check(ctx, work)
	if err != nil {
		return Database{}, fmt.Errorf("import %s: it is not a whole vulnerability database of grype (schema %d): %w", filepath.Base(file), v6.ModelVersion, err)
	}
	if db.Built.Before(opts.NotBefore) {
		return Database{}, fmt.Errorf("import %s: it was built on %s, before the one that is there (%s): it is not taken", filepath.Base(file),
			db.Built.Format(time.DateTime), opts.NotBefore.UTC().Format(time.DateTime))
	}
	db.Checksum, db.Source = checksum, opts.Source
	if db.Source == "" {
		db.Source = file
	}
	if opts.Now != nil {
		db.Imported = opts.Now().UTC()
	}
	if err := activate(dir, work, db); err != nil {
		return Database{}, fmt.Errorf("import %s: %w", filepath.Base(file), err)
	}
	return db, nil
}

// extract writes the database of a file to another and returns the checksum of the file.
func extract(ctx context.Context, file, to, want string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(readerContext{ctx, f}, sum), 1<<20)
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	unpackErr := unpackDatabase(in, out)
	if _, err := io.Copy(io.Discard, in); err != nil { // what follows counts for the checksum
		return "", err
	}
	got := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if want != "" && got != want {
		return "", fmt.Errorf("its checksum is %s, not %s: it was not downloaded in full, or altered", got, want)
	}
	if unpackErr != nil {
		return "", unpackErr
	}
	return got, errors.Join(out.Sync(), out.Close())
}

func unpackDatabase(in *bufio.Reader, out io.Writer) error {
	if magic, err := in.Peek(16); err == nil && string(magic) == "SQLite format 3\x00" {
		return bounded(out, in)
	}
	plain, err := decompress(in)
	if err != nil {
		return err
	}
	tr := tar.NewReader(plain)
	for n := 0; n < 100; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the archive holds no %s", v6.VulnerabilityDBFileName)
		}
		if err != nil {
			return fmt.Errorf("it is neither an SQLite database nor a whole archive of one: %w", err)
		}
		if h.Typeflag == tar.TypeReg && path.Base(h.Name) == v6.VulnerabilityDBFileName {
			return bounded(out, tr)
		}
	}
	return fmt.Errorf("the archive holds no %s among its first 100 entries", v6.VulnerabilityDBFileName)
}

func decompress(in *bufio.Reader) (io.Reader, error) {
	magic, err := in.Peek(6)
	if err != nil {
		return nil, fmt.Errorf("it is empty or cut short")
	}
	switch {
	case strings.HasPrefix(string(magic), "\x28\xb5\x2f\xfd"):
		r, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(maxDatabase), zstd.WithDecoderMaxWindow(512<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return r, nil
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		return gzip.NewReader(in)
	case string(magic) == "\xfd7zXZ\x00":
		return xz.NewReader(in)
	}
	return in, nil
}

func bounded(out io.Writer, in io.Reader) error {
	n, err := io.Copy(out, io.LimitReader(in, maxDatabase+1))
	if err == nil && n > maxDatabase {
		return fmt.Errorf("it unpacks to more than %s", size(maxDatabase))
	}
	if err != nil {
		return fmt.Errorf("it cannot be unpacked: %w", err)
	}
	return nil
}

// check opens a database, makes the indexes that grype's archives leave out, and reads every page of it.
func check(ctx context.Context, dir string) (Database, error) {
	file := filepath.Join(dir, v6.VulnerabilityDBFileName)
	if err := integrity(ctx, file); err != nil {
		return Database{}, err
	}
	if err := v6.Hydrater()(dir); err != nil {
		return Database{}, fmt.Errorf("%s", oneLine(err.Error(), 500))
	}
	d, err := v6.ReadDescription(file)
	if err != nil {
		return Database{}, fmt.Errorf("%s", oneLine(err.Error(), 500))
	}
	info, err := os.Stat(file)
	if err != nil {
		return Database{}, err
	}
	return Database{Built: d.Built.UTC(), Schema: d.SchemaVersion.String(), Size: info.Size()}, nil
}

func integrity(ctx context.Context, file string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer db.Close()
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said); err != nil {
		return fmt.Errorf("%s", oneLine(err.Error(), 300))
	}
	if said != "ok" {
		return fmt.Errorf("%s", oneLine(said, 300))
	}
	return nil
}

// activate gives a checked database its place. What a crash leaves behind is the old one, or the new one.
func activate(dir, work string, db Database) error {
	about, err := json.MarshalIndent(db, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(work, aboutName), about); err != nil {
		return err
	}
	name := folderName(db.Checksum)
	place := filepath.Join(dir, name)
	if current, _ := os.Readlink(filepath.Join(dir, currentName)); current == name {
		// The same file again: its folder may be open, and may be broken; a new one beside it takes over.
		name += "-" + filepath.Base(work)
		place = filepath.Join(dir, name)
	}
	if err := errors.Join(syncDir(work), os.RemoveAll(place), os.Rename(work, place)); err != nil {
		return err
	}
	link := filepath.Join(dir, "next")
	if err := errors.Join(os.RemoveAll(link), os.Symlink(name, link), os.Rename(link, filepath.Join(dir, currentName)), syncDir(dir)); err != nil {
		return err
	}
	return leftovers(dir)
}

// leftovers removes what is not in use: replaced databases and interrupted imports. Who has one open keeps it.
func leftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	current, _ := os.Readlink(filepath.Join(dir, currentName))
	for _, e := range entries {
		if e.Name() == current || !(strings.HasPrefix(e.Name(), "db-") || strings.HasPrefix(e.Name(), "import-")) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readerContext stops a copy when its context ends.
type readerContext struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (r readerContext) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
