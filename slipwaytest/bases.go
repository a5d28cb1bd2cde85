package slipwaytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Base images, as the names under which a mirror has them say. They are made from this machine's own
// files, for where no registry can be reached: enough to build and run the examples, not a
// replacement of the originals.
const (
	Busybox    = "docker.io/library/busybox:1.36"
	Golang     = "docker.io/library/golang:1.26"
	Distroless = "gcr.io/distroless/static-debian12:nonroot"
)

// BaseOptions say where base images go.
type BaseOptions struct {
	Address  string // URL of the registry: http://127.0.0.1:8080
	User     string
	Password string
	Prefix   string   // repositories are <prefix>/<registry>/...; default "mirror"
	Cache    string   // folder where layers are kept; default <user cache>/slipway/bases
	Only     []string // of Busybox, Golang, Distroless; default all
	Progress func(line string)
}

// inputsLabel holds a hash of what an image was made of.
const inputsLabel = "dev.slipway.inputs"

// stamp is the time of every file.
var stamp = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// base is an image to be made.
type base struct {
	ref    string
	config v1.Config
	layers []layer
}

// layer is a layer to be made, kept by the hash of its inputs.
type layer struct {
	name   string
	inputs string
	write  func(w *treeWriter) error
}

// Bases makes the base images and pushes those that the registry does not have yet. Equal machines
// make equal images; a second call takes well under a second.
func Bases(ctx context.Context, opts BaseOptions) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	for ref, describe := range map[string]func() (base, error){Busybox: busyboxBase, Golang: golangBase, Distroless: distrolessBase} {
		if !slices.Contains(opts.Only, ref) {
			continue
		}
		b, err := describe()
		if err == nil {
			err = opts.ensure(ctx, b)
		}
		if err != nil {
			return fmt.Errorf("base image %s: %w", ref, err)
		}
	}
	return nil
}

func (o BaseOptions) withDefaults() (BaseOptions, error) {
	if o.Prefix == "" {
		o.Prefix = "mirror"
	}
	if o.Cache == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return o, err
		}
		o.Cache = filepath.Join(cache, "slipway", "bases")
	}
	if len(o.Only) == 0 {
		o.Only = []string{Busybox, Golang, Distroless}
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o, os.MkdirAll(o.Cache, 0o755)
}

// ensure pushes the image unless the registry has it, made of the same.
func (o BaseOptions) ensure(ctx context.Context, b base) error {
	host, plain := strings.CutPrefix(o.Address, "http://")
	nameOpts := []name.Option{}
	if plain {
		nameOpts = append(nameOpts, name.Insecure)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(host, "https://")+"/"+path.Join(o.Prefix, b.ref), nameOpts...)
	if err != nil {
		return err
	}
	reg := []remote.Option{remote.WithContext(ctx)}
	if o.User != "" {
		reg = append(reg, remote.WithAuth(&authn.Basic{Username: o.User, Password: o.Password}))
	}
	inputs := b.inputs()
	if have, err := pushedInputs(ref, reg); err != nil || have == inputs {
		return err
	}
	begin := time.Now()
	o.Progress("making base image " + b.ref)
	img, err := o.image(b, inputs)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, reg...); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	o.Progress(fmt.Sprintf("base image %s is in the mirror (%s)", b.ref, time.Since(begin).Round(100*time.Millisecond)))
	return nil
}

// pushedInputs is the label of the image that the registry has, "" for none.
func pushedInputs(ref name.Reference, reg []remote.Option) (string, error) {
	img, err := remote.Image(ref, reg...)
	if err != nil {
		var te *transport.Error
		if errors.As(err, &te) && te.StatusCode == http.StatusNotFound {
			return "", nil
		}
		return "", err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	return cfg.Config.Labels[inputsLabel], nil
}

func (b base) inputs() string {
	parts := []string{fmt.Sprint(b.config.Env, b.config.Cmd, b.config.User, b.config.WorkingDir)}
	for _, l := range b.layers {
		parts = append(parts, l.inputs)
	}
	return sum(parts...)
}

func (o BaseOptions) image(b base, inputs string) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range b.layers {
		file, err := o.layerFile(l)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		add := mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: stamp}, CreatedBy: "slipwaytest " + l.name}}
		if img, err = mutate.Append(img, add); err != nil {
			return nil, err
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Created = "linux", runtime.GOARCH, v1.Time{Time: stamp}
	cfg.Config = b.config
	cfg.Config.Labels = map[string]string{inputsLabel: inputs}
	return mutate.ConfigFile(img, cfg)
}

// layerFile is the compressed layer, made unless it is kept from an earlier call.
func (o BaseOptions) layerFile(l layer) (string, error) {
	file := filepath.Join(o.Cache, l.name+"-"+l.inputs[:16]+".tar.gz")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	tmp, err := os.CreateTemp(o.Cache, l.name+"-*.tmp")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	gz, err := gzip.NewWriterLevel(tmp, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	w := &treeWriter{tar: tar.NewWriter(gz), dirs: map[string]bool{".": true}}
	err = errors.Join(l.write(w), w.tar.Close(), gz.Close(), tmp.Close())
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", l.name, err)
	}
	return file, os.Rename(tmp.Name(), file)
}

// treeWriter writes files into a layer, with the folders above them, owned by root unless told.
type treeWriter struct {
	tar  *tar.Writer
	dirs map[string]bool
	uid  int
}

func (w *treeWriter) header(h tar.Header) error {
	h.ModTime, h.Uid, h.Gid, h.Format = stamp, w.uid, w.uid, tar.FormatPAX
	return w.tar.WriteHeader(&h)
}

func (w *treeWriter) dir(name string, mode int64) error {
	if w.dirs[name] {
		return nil
	}
	if err := w.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	w.dirs[name] = true
	return w.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
}

func (w *treeWriter) file(name string, mode int64, data []byte) error {
	if err := w.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := w.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.tar.Write(data)
	return err
}

func (w *treeWriter) link(name, target string) error {
	if err := w.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	return w.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// copy writes a file of this machine.
func (w *treeWriter) copy(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := w.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := w.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, f)
	return err
}

const (
	bundle     = "/etc/ssl/certs/ca-certificates.crt"
	passwd     = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	group      = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"
	nsswitch   = "hosts: files dns\n"
	systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// busyboxLayer is a shell and the usual commands, from Debian's busybox-static.
func busyboxLayer() (layer, error) {
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return layer{}, fmt.Errorf("busybox is missing (apt-get install busybox-static): %w", err)
	}
	out, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return layer{}, fmt.Errorf("list busybox commands: %w", err)
	}
	commands := strings.Fields(string(out))
	write := func(w *treeWriter) error {
		err := errors.Join(
			w.file("bin/busybox", 0o755, binary),
			w.file("etc/passwd", 0o644, []byte(passwd)),
			w.file("etc/group", 0o644, []byte(group)),
			w.file("etc/nsswitch.conf", 0o644, []byte(nsswitch)),
			w.dir("tmp", 0o1777), w.dir("root", 0o700), w.dir("usr/bin", 0o755),
			w.link("usr/bin/env", "../../bin/busybox"))
		for _, c := range commands {
			if c != "busybox" {
				err = errors.Join(err, w.link("bin/"+c, "busybox"))
			}
		}
		return err
	}
	return layer{name: "busybox", inputs: sum("busybox 1", passwd, string(binary)), write: write}, nil
}

func busyboxBase() (base, error) {
	l, err := busyboxLayer()
	return base{ref: Busybox, config: v1.Config{Env: []string{"PATH=" + systemPath}, Cmd: []string{"sh"}}, layers: []layer{l}}, err
}

// golangBase is busybox with this machine's Go, without its tests and documents.
func golangBase() (base, error) {
	shell, err := busyboxLayer()
	if err != nil {
		return base{}, err
	}
	certs, err := os.ReadFile(bundle)
	if err != nil {
		return base{}, fmt.Errorf("certificates are missing (apt-get install ca-certificates): %w", err)
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return base{}, fmt.Errorf("find Go: %w", err)
	}
	root := strings.TrimSpace(string(out))
	files, inputs, err := goFiles(root)
	if err != nil {
		return base{}, err
	}
	sdk := layer{name: "golang", inputs: inputs, write: func(w *treeWriter) error {
		for _, f := range files {
			if err := w.copy("usr/local/go/"+filepath.ToSlash(f), filepath.Join(root, f)); err != nil {
				return err
			}
		}
		return errors.Join(w.dir("go/src", 0o1777), w.dir("go/bin", 0o1777))
	}}
	std := layer{name: "golang-std", inputs: sum("golang-std 1 "+strings.Join(served, " "), inputs), write: writeStd}
	extra := layer{name: "certs", inputs: sum("certs 1", string(certs)), write: func(w *treeWriter) error {
		return w.file(bundle[1:], 0o644, certs)
	}}
	return base{
		ref: Golang,
		config: v1.Config{
			Env: []string{"PATH=/go/bin:/usr/local/go/bin:" + systemPath, "GOPATH=/go", "GOTOOLCHAIN=local",
				"GOFLAGS=-buildvcs=false -trimpath", "CGO_ENABLED=0", installed},
			Cmd: []string{"sh"}, WorkingDir: "/go",
		},
		layers: []layer{shell, extra, sdk, std},
	}, nil
}

// installed has the go command look for the compiled standard library under GOROOT/pkg, as it did
// before Go 1.20.
const installed = "GODEBUG=installgoroot=all"

// served are the packages of the standard library that services and their tests are made of.
var served = []string{"embed", "encoding/json", "encoding/xml", "flag", "html/template", "log/slog", "net/http/httptest", "os/exec", "os/signal", "testing", "testing/internal/testdeps"}

// writeStd is what served needs, compiled: a build on a cold cache takes one second with it, and half
// a minute of two cores without.
func writeStd(w *treeWriter) error {
	dir, err := os.MkdirTemp("", "golang-std")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	environ := append(os.Environ(), installed, "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local")
	list := exec.Command("go", append([]string{"list", "-deps"}, served...)...)
	list.Env = environ
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the standard library: %w", err)
	}
	install := exec.Command("go", append([]string{"install", "-trimpath", "-pkgdir", dir}, strings.Fields(string(packages))...)...)
	install.Env = environ
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the standard library: %w: %s", err, out)
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return w.copy(path.Join("usr/local/go/pkg", runtime.GOOS+"_"+runtime.GOARCH, filepath.ToSlash(rel)), p)
	})
}

// goFiles are the files of a Go installation that builds need, relative to it, and a hash of their
// names, sizes and versions.
func goFiles(root string) ([]string, string, error) {
	version, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return nil, "", err
	}
	var files []string
	listing := bytes.NewBufferString("golang 1\n" + string(version))
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch {
			case rel == "test", rel == "doc", rel == "api", rel == "misc", d.Name() == "testdata", rel == "pkg/obj", rel == "pkg/bootstrap":
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, rel)
		fmt.Fprintln(listing, rel, info.Size(), info.Mode())
		return nil
	})
	return files, sum(listing.String()), err
}

// distrolessBase holds what a static program needs, and a user who is not root.
func distrolessBase() (base, error) {
	certs, err := os.ReadFile(bundle)
	if err != nil {
		return base{}, fmt.Errorf("certificates are missing (apt-get install ca-certificates): %w", err)
	}
	l := layer{name: "distroless", inputs: sum("distroless 1", passwd, group, string(certs)), write: func(w *treeWriter) error {
		err := errors.Join(
			w.file("etc/passwd", 0o644, []byte(passwd)),
			w.file("etc/group", 0o644, []byte(group)),
			w.file("etc/nsswitch.conf", 0o644, []byte(nsswitch)),
			w.file(bundle[1:], 0o644, certs),
			w.dir("tmp", 0o1777), w.dir("root", 0o700), w.dir("home", 0o755))
		w.uid = 65532
		return errors.Join(err, w.dir("home/nonroot", 0o700))
	}}
	return base{
		ref: Distroless,
		config: v1.Config{
			Env:  []string{"PATH=" + systemPath, "SSL_CERT_FILE=" + bundle},
			User: "65532", WorkingDir: "/home/nonroot",
		},
		layers: []layer{l},
	}, nil
}

func sum(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h[:])
}
