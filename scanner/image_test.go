package scanner_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipway-cd/slipway/scanner"
)

// file is an entry of a layer; a name that ends in / is a folder.
type file struct {
	name, body string
}

const (
	awsKey   = "AKIAQYLPMN5HHHFPZAM2"
	ghToken  = "ghp_" + "x7Kq2mWv9RtY4uJb1LsZ8cPd3NfG6hE0aTiQ"
	osDebian = "ID=debian\nVERSION_ID=\"12\"\nNAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\n"
	osAlpine = "ID=alpine\nVERSION_ID=3.20.1\nNAME=\"Alpine Linux\"\n"
)

func dpkg(name, version string) string {
	return fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\nMaintainer: x\nDescription: x\n\n", name, version)
}

func layerOf(t *testing.T, files ...file) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return rawLayer(t, b.Bytes())
}

func rawLayer(t *testing.T, data []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write writes an image as a layout.
func write(t *testing.T, config v1.Config, layers ...v1.Layer) string {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config = "linux", "amd64", config
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return writeImage(t, img)
}

func writeImage(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}

func list() scanner.List {
	return scanner.List{Vulnerabilities: []scanner.Known{
		{ID: "CVE-2024-0001", Severity: "Critical", Title: "overflow in openssl", Link: "https://example.com/1", Package: "openssl", Ecosystem: "deb", Distro: "debian 12 bookworm", Affected: "< 3.0.11-1", Fixed: "3.0.11-1"},
		{ID: "CVE-2024-0002", Severity: "low", Package: "zlib1g", Ecosystem: "deb", Distro: "debian 12 bookworm", Affected: "< 2:1.3", Fixed: ""},
		{ID: "CVE-2024-0003", Severity: "high", Package: "musl", Ecosystem: "apk", Distro: "alpine 3.20", Affected: "< 1.2.5-r1", Fixed: "1.2.5-r1"},
		{ID: "GHSA-aaaa-bbbb-cccc", Severity: "critical", Package: "left-pad", Ecosystem: "npm", Affected: "< 1.3.0", Fixed: "1.3.0"},
		{ID: "GHSA-go00-0000-0001", Severity: "medium", Package: "github.com/google/uuid", Ecosystem: "go-module", Affected: "< 1.7.0"},
	}}
}

// database imports a database of a list and returns its folder.
func database(t *testing.T, l scanner.List) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "db.tar.zst")
	if err := scanner.Build(l, archive); err != nil {
		t.Fatal(err)
	}
	if _, err := scanner.Import(t.Context(), filepath.Join(dir, "db"), archive, scanner.ImportOptions{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "db")
}

func scan(t *testing.T, req scanner.Request) scanner.Answer {
	t.Helper()
	s, err := scanner.New()
	if err != nil {
		t.Fatal(err)
	}
	return s.Scan(t.Context(), req, func(string) {})
}

// brief is a finding in a line.
func brief(list []scanner.Finding) []string {
	var out []string
	for _, f := range list {
		line := strings.Join(strings.Fields(strings.Join([]string{f.Kind, f.ID, f.Severity, f.Package, f.Version, f.Type, "->", f.FixedIn, f.Path}, " ")), " ")
		if f.Line > 0 {
			line += fmt.Sprintf(":%d", f.Line)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPackagesOfManyKinds(t *testing.T) {
	t.Parallel()
	db := database(t, list())
	lock := `{"name":"web","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"web"},"node_modules/left-pad":{"version":"1.2.0"}}}`
	cases := map[string]struct {
		layers []v1.Layer
		distro string
		want   []string
	}{
		"debian": {[]v1.Layer{layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1") + dpkg("zlib1g", "1:1.2.13")})}, "debian 12", []string{
			"vulnerability CVE-2024-0001 critical openssl 3.0.10-1 deb -> 3.0.11-1 var/lib/dpkg/status",
			"vulnerability CVE-2024-0002 low zlib1g 1:1.2.13 deb -> var/lib/dpkg/status",
		}},
		"debian that is mended": {[]v1.Layer{
			layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}),
			layerOf(t, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.11-1")}),
		}, "debian 12", nil},
		"alpine": {[]v1.Layer{layerOf(t, file{"etc/os-release", osAlpine}, file{"lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\n"})}, "alpine 3.20.1", []string{
			"vulnerability CVE-2024-0003 high musl 1.2.5-r0 apk -> 1.2.5-r1 lib/apk/db/installed",
		}},
		"npm": {[]v1.Layer{layerOf(t, file{"app/node_modules/left-pad/package.json", `{"name":"left-pad","version":"1.2.0"}`}, file{"app/package-lock.json", lock})}, "", []string{
			"vulnerability GHSA-aaaa-bbbb-cccc critical left-pad 1.2.0 npm -> 1.3.0 app/node_modules/left-pad/package.json",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			a := scan(t, scanner.Request{Layout: write(t, v1.Config{}, c.layers...), Name: "registry.test/shop/web", Database: db, Output: out, CycloneDX: true})
			if a.Refused+a.Error != "" || len(a.Problems) > 0 {
				t.Fatalf("%+v", a)
			}
			if a.Distro != c.distro {
				t.Errorf("distro %q, want %q", a.Distro, c.distro)
			}
			equal(t, brief(a.Findings), c.want)
			for _, f := range a.Findings {
				if !strings.HasPrefix(f.Layer, "sha256:") {
					t.Errorf("%s names no layer: %q", f.ID, f.Layer)
				}
			}
			var spdx struct{ SPDXVersion string }
			var cdx struct{ BOMFormat string }
			read(t, filepath.Join(out, "sbom.spdx.json"), &spdx)
			read(t, filepath.Join(out, "sbom.cdx.json"), &cdx)
			if spdx.SPDXVersion != "SPDX-2.3" || cdx.BOMFormat != "CycloneDX" {
				t.Errorf("documents: %+v, %+v", spdx, cdx)
			}
		})
	}
}

func TestGoProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "server")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/program").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	a := scan(t, scanner.Request{Layout: write(t, v1.Config{}, layerOf(t, file{"usr/bin/server", string(data)})), Database: database(t, list())})
	if a.Refused+a.Error != "" || !slices.ContainsFunc(a.Findings, func(f scanner.Finding) bool {
		return f.Package == "github.com/google/uuid" && f.Path == "usr/bin/server" && f.FixedIn == "" && f.Severity == "medium"
	}) {
		t.Errorf("%+v", a)
	}
}

func read(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutDatabase(t *testing.T) {
	t.Parallel()
	img := write(t, v1.Config{}, layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}))
	a := scan(t, scanner.Request{Layout: img, Database: t.TempDir()})
	if a.Database.Missing != "no vulnerability database was imported" || a.Packages != 1 || len(a.Findings) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestSecretsOfAnImage(t *testing.T) {
	t.Parallel()
	key := pem(t)
	img := write(t, v1.Config{Env: []string{"PATH=/bin", "GITHUB_TOKEN=" + ghToken}},
		layerOf(t, file{"app/.env", "A=1\nAWS_ACCESS_KEY_ID=" + awsKey + "\n"}, file{"app/id_rsa", key}, file{"app/logo.bin", "\x00\x01" + awsKey}),
		layerOf(t, file{"app/.wh.id_rsa", ""}),
		layerOf(t, file{"app/.env", "A=1\n"}, file{"usr/share/doc/x", awsKey}),
	)
	a := scan(t, scanner.Request{Layout: img})
	equal(t, brief(a.Findings), []string{
		"secret aws-access-token high -> app/.env:2",
		"secret github-pat high -> variable GITHUB_TOKEN of the image",
		"secret private-key high -> app/id_rsa:1",
	})
	text, _ := json.Marshal(a)
	for _, secret := range []string{awsKey, ghToken, "MIIE", awsKey[:8]} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the answer holds %s", secret)
		}
	}
	for _, f := range a.Findings {
		want := map[string]string{
			"aws-access-token": "aws access token AKIA**** (a later layer replaces the file)",
			"private-key":      "private key (a later layer removes the file; it is in the image nevertheless)",
			"github-pat":       "github pat ghp_****",
		}[f.ID]
		if f.Title != want {
			t.Errorf("%s: title %q, want %q", f.ID, f.Title, want)
		}
	}
}

// pem is a private key that opens nothing.
func pem(t *testing.T) string {
	t.Helper()
	body := strings.Repeat("MIIEpAIBAAKCAQEAx7Kq2mWv9RtY4uJb1LsZ8cPd3NfG6hE0aTiQwErTyUiOpAsD\n", 6)
	return "-----BEGIN RSA " + "PRIVATE KEY-----\n" + body + "-----END RSA " + "PRIVATE KEY-----\n"
}

func TestSecretsOfAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	for name, body := range map[string]string{
		filepath.Join(dir, "main.go"):             "package main\n\n// gitleaks:allow\nvar key = \"" + awsKey + "\" // gitleaks:allow\n",
		filepath.Join(dir, "deploy", "token.yml"): "token: " + ghToken + "\n",
		filepath.Join(dir, "README.md"):           "set the password to hunter2, api_key = 0123456789abcdef0123456789abcdef\n",
		outside:                                   awsKey,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	a := scan(t, scanner.Request{Folder: dir})
	equal(t, brief(a.Findings), []string{"secret aws-access-token high -> main.go:4", "secret github-pat high -> deploy/token.yml:1"})
}

// A text in UTF-16, as PowerShell's > writes one, is searched like any other; a file of bytes is not.
func TestSecretsInUTF16(t *testing.T) {
	t.Parallel()
	wide := func(text, mark string, order binary.AppendByteOrder) string {
		out := []byte(mark)
		for _, unit := range utf16.Encode([]rune(text)) {
			out = order.AppendUint16(out, unit)
		}
		return string(out)
	}
	text := "# grüße\r\nAWS_ACCESS_KEY_ID=" + awsKey + "\r\n"
	img := write(t, v1.Config{}, layerOf(t,
		file{"app/le.env", wide(text, "\xff\xfe", binary.LittleEndian)},
		file{"app/be.env", wide(strings.Repeat("# much\r\n", 2000)+text, "\xfe\xff", binary.BigEndian) + "x"},
		file{"app/none.bin", wide(text, "", binary.LittleEndian)},
		file{"app/utf32", "\xff\xfe\x00\x00A\x00\x00\x00"}, file{"app/short", "\xff\xfe"}))
	equal(t, brief(scan(t, scanner.Request{Layout: img}).Findings), []string{
		"secret aws-access-token high -> app/be.env:2002", "secret aws-access-token high -> app/le.env:2",
	})
}

func TestArchiveOfALayout(t *testing.T) {
	t.Parallel()
	dir := write(t, v1.Config{}, layerOf(t, file{"etc/os-release", osDebian}, file{"var/lib/dpkg/status", dpkg("openssl", "3.0.10-1")}))
	archive := filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if a := scan(t, scanner.Request{Layout: archive, Database: database(t, list())}); len(a.Findings) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestServeStopsWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	in, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- scanner.Serve(context.WithoutCancel(t.Context()), in, io.Discard) }()
	if err := json.NewEncoder(w).Encode(scanner.Request{Folder: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
