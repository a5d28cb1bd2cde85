package scanner_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/slipway-cd/slipway/scanner"
)

// entries is a tar archive of headers without content.
func entries(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bomb is a layer of zeros that is small while it is packed.
func bomb(t *testing.T, size int64) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return rawLayer(t, b.Bytes())
}

// holes is a layer with a file that is small in the archive and has a size of its own choice.
func holes(t *testing.T, name string, size int64) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	data := fmt.Appendf(nil, "1\n%d\n0\n", size)
	data = append(data, make([]byte, 512-len(data))...)
	// Go's writer refuses to write such records.
	records := map[string]string{"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.name": name, "XNU.sparse.realsize": fmt.Sprint(size)}
	if err := w.WriteHeader(&tar.Header{Name: "sparse", Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: 0o644, Format: tar.FormatPAX, PAXRecords: records}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return rawLayer(t, bytes.ReplaceAll(b.Bytes(), []byte("XNU.sparse"), []byte("GNU.sparse")))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHostileImages(t *testing.T) {
	t.Parallel()
	many := make([]tar.Header, 3000)
	for i := range many {
		many[i] = tar.Header{Name: fmt.Sprintf("f%d", i), Typeflag: tar.TypeReg}
	}
	layers := make([]v1.Layer, 12)
	for i := range layers {
		layers[i] = layerOf(t, file{fmt.Sprint("f", i), "x"})
	}
	limits := scanner.Limits{Layers: 10, Files: 2000, Bytes: 16 << 20}
	cases := map[string]struct {
		image func(t *testing.T) string
		want  string
	}{
		"decompression bomb": {func(t *testing.T) string { return write(t, v1.Config{}, bomb(t, 64<<20)) }, "its layers unpack to more than 16 MiB"},
		"a file of holes":    {func(t *testing.T) string { return write(t, v1.Config{}, holes(t, "app/package.json", 1<<40)) }, "its layers unpack to more than 16 MiB"},
		"a million files":    {func(t *testing.T) string { return write(t, v1.Config{}, rawLayer(t, entries(t, many...))) }, "it has more than 2000 files"},
		"many layers":        {func(t *testing.T) string { return write(t, v1.Config{}, layers...) }, "it has 12 layers; at most 10 are scanned"},
		"path out of the image": {func(t *testing.T) string {
			return write(t, v1.Config{}, rawLayer(t, entries(t, tar.Header{Name: "a/../../../etc/cron.d/x", Typeflag: tar.TypeReg})))
		}, `the entry "a/../../../etc/cron.d/x" leads out of the image`},
		"hard link out of the image": {func(t *testing.T) string {
			return write(t, v1.Config{}, rawLayer(t, entries(t, tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"})))
		}, `the link "a" leads out of the image`},
		"not a tar archive": {func(t *testing.T) string {
			return write(t, v1.Config{}, rawLayer(t, []byte(strings.Repeat("no tar ", 1000))))
		}, "is not a tar archive"},
		"cut short": {cut, "cannot be unpacked"},
		"altered":   {altered, "is not what the image's configuration says"},
		"no image":  {func(t *testing.T) string { return t.TempDir() }, "it is not an OCI image layout"},
		"other configuration": {func(t *testing.T) string {
			img, err := mutate.AppendLayers(empty.Image, layerOf(t, file{"a", "b"}))
			if err != nil {
				t.Fatal(err)
			}
			c, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			c = c.DeepCopy()
			c.RootFS.DiffIDs = nil
			if img, err = mutate.ConfigFile(img, c); err != nil {
				t.Fatal(err)
			}
			return writeImage(t, img)
		}, "its configuration names 0 layers and its manifest 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := scan(t, scanner.Request{Layout: c.image(t), Limits: limits})
			if !strings.Contains(a.Refused, c.want) || a.Error != "" {
				t.Errorf("refused %q, error %q; want %q", a.Refused, a.Error, c.want)
			}
		})
	}
}

// blobs calls fn with the layers of a layout: the files that are gzip.
func blobs(t *testing.T, dir string, fn func(name string, data []byte)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
			fn(name, data)
		}
	}
}

func cut(t *testing.T) string {
	dir := write(t, v1.Config{}, layerOf(t, file{"a", strings.Repeat("0123456789abcdef", 4096)}))
	blobs(t, dir, func(name string, data []byte) {
		if err := os.WriteFile(name, data[:len(data)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	})
	return dir
}

func altered(t *testing.T) string {
	dir := write(t, v1.Config{}, layerOf(t, file{"a", "good"}))
	blobs(t, dir, func(name string, _ []byte) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(entries(t, tar.Header{Name: "evil", Typeflag: tar.TypeReg})); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	return dir
}

// Links between files are the image's own business: they are not followed outside of it.
func TestSymbolicLinksStayInside(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(outside, []byte(dpkg("openssl", "3.0.10-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	img := write(t, v1.Config{}, layerOf(t, file{"etc/os-release", osDebian}), rawLayer(t, entries(t,
		tar.Header{Name: "var/lib/dpkg/status", Typeflag: tar.TypeSymlink, Linkname: outside},
		tar.Header{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"},
	)))
	a := scan(t, scanner.Request{Layout: img, Database: database(t, list())})
	if a.Refused+a.Error != "" || a.Packages != 0 {
		t.Errorf("%+v", a)
	}
}

func TestBadDatabasesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.tar.zst")
	if err := scanner.Build(list(), good); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "db")
	before, err := scanner.Import(t.Context(), folder, good, scanner.ImportOptions{Source: "good"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, "current", "vulnerability.db"))
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(raw)
	for i := 8192; i < len(broken); i += 4096 {
		copy(broken[i:], "broken page")
	}
	cases := map[string]struct {
		data     []byte
		checksum string
		want     string
	}{
		"half":           {data[:len(data)/2], "", "nor a whole archive of one"},
		"wrong checksum": {data, "sha256:" + strings.Repeat("0", 64), "it was not downloaded in full, or altered"},
		"empty":          {nil, "", "it is empty or cut short"},
		"other":          {[]byte(strings.Repeat("<html>not found</html>", 100)), "", "neither an SQLite database nor a whole archive"},
		"other archive":  {entries(t, tar.Header{Name: "readme", Typeflag: tar.TypeReg}), "", "holds no vulnerability.db"},
		"broken pages":   {broken, "", "not a whole vulnerability database"},
		"half database":  {raw[:len(raw)/2], "", "not a whole vulnerability database"},
		"only a header":  {raw[:4096], "", "not a whole vulnerability database"},
	}
	for name, c := range cases {
		bad := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(bad, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := scanner.Import(t.Context(), folder, bad, scanner.ImportOptions{Checksum: c.checksum})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if after := scanner.Status(folder); after != before {
			t.Errorf("%s: the database is now %+v, was %+v", name, after, before)
		}
	}
	if list, _ := filepath.Glob(filepath.Join(folder, "*")); len(list) != 3 { // current, its folder, lock
		t.Errorf("left in the folder: %v", list)
	}
}

func TestImportReplacesAndARunningScanKeepsTheOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "db")
	archive := filepath.Join(dir, "db.tar.zst")
	img := write(t, v1.Config{}, layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}))
	s, err := scanner.New()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0, 0} {
		l := list()
		l.Built = time.Date(2026, 11, i+1, 0, 0, 0, 0, time.UTC)
		if want == 0 {
			l.Vulnerabilities = nil
		}
		if err := scanner.Build(l, archive); err != nil {
			t.Fatal(err)
		}
		db, err := scanner.Import(t.Context(), folder, archive, scanner.ImportOptions{})
		if err != nil || !db.Built.Equal(l.Built) {
			t.Fatalf("%+v %v", db, err)
		}
		if again, err := scanner.Import(t.Context(), folder, archive, scanner.ImportOptions{}); err != nil || again.Checksum != db.Checksum {
			t.Fatal(err)
		}
		if a := s.Scan(t.Context(), scanner.Request{Layout: img, Database: folder}, func(string) {}); len(a.Findings) != want || a.Database.Checksum != db.Checksum {
			t.Errorf("with database %d: %+v", i, a)
		}
	}
	if list, _ := filepath.Glob(filepath.Join(folder, "db-*")); len(list) != 1 {
		t.Errorf("left in the folder: %v", list)
	}
}

// A database that was cut short after its import is not used.
func TestDatabaseThatShrankIsMissing(t *testing.T) {
	t.Parallel()
	folder := database(t, list())
	if err := os.Truncate(filepath.Join(folder, "current", "vulnerability.db"), 8192); err != nil {
		t.Fatal(err)
	}
	a := scan(t, scanner.Request{Layout: write(t, v1.Config{}, layerOf(t, file{"a", "b"})), Database: folder})
	if !strings.Contains(a.Database.Missing, "it has 8192 bytes") {
		t.Errorf("%+v", a.Database)
	}
}

// One that is corrupt inside counts as none: packages and secrets are still known.
func TestDatabaseThatIsCorruptInside(t *testing.T) {
	t.Parallel()
	img := write(t, v1.Config{}, layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}))
	for what, breaks := range map[string]func(page []byte) bool{
		"it cannot be opened": func([]byte) bool { return true },
		"it cannot be asked":  func(page []byte) bool { return bytes.Contains(page, []byte("openssl")) },
	} {
		folder := database(t, list())
		name := filepath.Join(folder, "current", "vulnerability.db")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for page := range slices.Chunk(data[2*4096:], 4096) {
			if breaks(page) {
				copy(page, "broken page")
			}
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a := scan(t, scanner.Request{Layout: img, Database: folder})
		text, _ := json.Marshal(a)
		if !strings.HasPrefix(a.Database.Missing, "the vulnerability database cannot be read: ") || a.Database.Checksum == "" || a.Packages != 1 {
			t.Errorf("%s: nothing says that the database is corrupt: %s", what, text)
		}
		t.Logf("%s: %s", what, a.Database.Missing)
	}
}

// What a distribution's feed was not asked about is said: an image cannot hide its packages by not naming it.
func TestPackagesOfAnUnknownDistribution(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		release string
		want    []string
	}{
		{"none", "", []string{"1 packages of a distribution were not looked up: the image does not say which it is (etc/os-release)"}},
		{"debian", osDebian, nil},
	} {
		layer := []file{{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}}
		if c.release != "" {
			layer = append(layer, file{"etc/os-release", c.release})
		}
		a := scan(t, scanner.Request{Layout: write(t, v1.Config{}, layerOf(t, layer...)), Database: database(t, list())})
		if a.Packages != 1 || !slices.Equal(a.Problems, c.want) || (len(a.Findings) == 0) != (c.want != nil) {
			t.Errorf("%s: %d packages, findings %v, problems %q", c.name, a.Packages, a.Findings, a.Problems)
		}
	}
}
