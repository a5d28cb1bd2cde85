package scanner

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// budget is what may still be read of an image.
type budget struct {
	bytes, sizes, files atomic.Int64
	limits              Limits
}

func newBudget(limits Limits) *budget {
	b := &budget{limits: limits}
	b.bytes.Store(limits.Bytes)
	b.sizes.Store(limits.Bytes)
	b.files.Store(int64(limits.Files))
	return b
}

func (b *budget) spend(n int) error {
	return b.take(&b.bytes, int64(n))
}

// file counts what an entry says that it has, which is more than is read of one with holes.
func (b *budget) file(size int64) error {
	return b.take(&b.sizes, min(size, b.limits.Bytes+1))
}

func (b *budget) take(of *atomic.Int64, n int64) error {
	if of.Add(-n) < 0 {
		return refusal{fmt.Sprintf("its layers unpack to more than %s", size(b.limits.Bytes))}
	}
	return nil
}

func (b *budget) entry() error {
	if b.files.Add(-1) < 0 {
		return refusal{fmt.Sprintf("it has more than %d files", b.limits.Files)}
	}
	return nil
}

func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// guarded is an image whose layers are bounded and searched for secrets while they are unpacked. It is read
// once.
type guarded struct {
	v1.Image
	budget *budget
	search *search
	layers []*guardedLayer
}

func guard(img v1.Image, limits Limits, s *search) (*guarded, error) {
	list, err := img.Layers()
	if err != nil {
		return nil, refusal{fmt.Sprintf("its manifest cannot be read: %v", err)}
	}
	if len(list) > limits.Layers {
		return nil, refusal{fmt.Sprintf("it has %d layers; at most %d are scanned", len(list), limits.Layers)}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, refusal{fmt.Sprintf("its configuration cannot be read: %v", err)}
	}
	if len(config.RootFS.DiffIDs) != len(list) {
		return nil, refusal{fmt.Sprintf("its configuration names %d layers and its manifest %d", len(config.RootFS.DiffIDs), len(list))}
	}
	g := &guarded{Image: img, budget: newBudget(limits), search: s}
	for i, l := range list {
		digest, err := l.Digest()
		if err != nil {
			return nil, refusal{fmt.Sprintf("layer %d cannot be read: %v", i+1, err)}
		}
		g.layers = append(g.layers, &guardedLayer{Layer: l, image: g, number: i, digest: digest.String(), diffID: config.RootFS.DiffIDs[i].String()})
	}
	return g, nil
}

// Layers implements v1.Image.
func (g *guarded) Layers() ([]v1.Layer, error) {
	out := make([]v1.Layer, len(g.layers))
	for i, l := range g.layers {
		out[i] = l
	}
	return out, nil
}

// refused is why a layer was not read to its end, as its reader may have wrapped the reason away.
func (g *guarded) refused() error {
	for _, l := range g.layers {
		if err := l.reason(); err != nil {
			return err
		}
	}
	return nil
}

type guardedLayer struct {
	v1.Layer
	image          *guarded
	number         int
	digest, diffID string

	mu  sync.Mutex
	err error
}

func (l *guardedLayer) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	return l.err
}

func (l *guardedLayer) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Uncompressed implements v1.Layer. What is read passes the bounds and a second reader, which walks the
// entries; the digest that the configuration promises is compared at the end.
func (l *guardedLayer) Uncompressed() (io.ReadCloser, error) {
	in, err := l.Layer.Uncompressed()
	if err != nil {
		return nil, l.fail(refusal{fmt.Sprintf("layer %s cannot be unpacked: %v", l.digest, err)})
	}
	pr, pw := io.Pipe()
	r := &layerReader{layer: l, in: in, sum: sha256.New(), pipe: pw, walked: make(chan error, 1)}
	go func() {
		err := l.walk(io.TeeReader(pr, r.sum))
		pr.CloseWithError(err) //nolint:errcheck // it never fails
		r.walked <- err
	}()
	return r, nil
}

type layerReader struct {
	layer  *guardedLayer
	in     io.ReadCloser
	sum    hash.Hash
	pipe   *io.PipeWriter
	walked chan error
	done   bool
}

// Read implements io.Reader.
func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err := r.pass(p[:n]); err != nil {
		return 0, err
	}
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, r.broken(err)
	}
	if err := r.finish(); err != nil {
		return n, err
	}
	return n, io.EOF
}

// WriteTo implements io.WriterTo: in large pieces, as both readers wait for each other at each.
func (r *layerReader) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, 1<<20)
	var total int64
	for {
		n := 0
		var err error
		for err == nil && n < len(buf) {
			var m int
			m, err = r.in.Read(buf[n:])
			n += m
		}
		if err := r.pass(buf[:n]); err != nil {
			return total, err
		}
		m, werr := w.Write(buf[:n])
		total += int64(m)
		switch {
		case werr != nil:
			return total, werr
		case errors.Is(err, io.EOF):
			return total, r.finish()
		case err != nil:
			return total, r.broken(err)
		}
	}
}

// pass gives what was read to the second reader.
func (r *layerReader) pass(p []byte) error {
	if err := r.layer.image.budget.spend(len(p)); err != nil {
		return r.layer.fail(err)
	}
	if _, err := r.pipe.Write(p); err != nil {
		return r.layer.fail(err)
	}
	return nil
}

func (r *layerReader) broken(err error) error {
	return r.layer.fail(refusal{fmt.Sprintf("layer %s cannot be unpacked: %v", r.layer.digest, err)})
}

func (r *layerReader) finish() error {
	if r.done {
		return nil
	}
	r.done = true
	r.pipe.Close() //nolint:errcheck // it never fails
	if err := <-r.walked; err != nil {
		return r.layer.fail(err)
	}
	if got := "sha256:" + hex.EncodeToString(r.sum.Sum(nil)); got != r.layer.diffID {
		return r.layer.fail(refusal{fmt.Sprintf("layer %s is not what the image's configuration says: it unpacks to %s, not %s", r.layer.digest, got, r.layer.diffID)})
	}
	return nil
}

// Close implements io.Closer.
func (r *layerReader) Close() error {
	if !r.done {
		r.done = true
		r.pipe.CloseWithError(io.ErrUnexpectedEOF) //nolint:errcheck // it never fails
		<-r.walked
	}
	return r.in.Close()
}

// maxName bounds the path of an entry.
const maxName = 4096

// walk counts the entries of a layer and searches its files.
func (l *guardedLayer) walk(in io.Reader) error {
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// What follows the end of the archive is read too, so that the writer is not stopped.
			_, err := io.Copy(io.Discard, in)
			return err
		}
		if err != nil {
			return refusal{fmt.Sprintf("layer %s is not a tar archive: %v", l.digest, err)}
		}
		if err := l.image.budget.entry(); err != nil {
			return err
		}
		if err := checkEntry(h); err != nil {
			return refusal{fmt.Sprintf("layer %s: %v", l.digest, err)}
		}
		if err := l.image.budget.file(h.Size); err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 || h.Size > maxSearched {
			continue
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if l.image.search.skips(name) {
			continue
		}
		if err := l.image.search.reader(tr, place{path: name, layer: l.digest, number: l.number}); err != nil {
			return refusal{fmt.Sprintf("layer %s: %s: %v", l.digest, oneLine(h.Name, 200), err)}
		}
	}
}

// checkEntry refuses names that lead out of the image's root: no honest tool writes them.
func checkEntry(h *tar.Header) error {
	if len(h.Name) > maxName || len(h.Linkname) > maxName {
		return errors.New("has an entry with a name of more than 4096 bytes")
	}
	if escapes(h.Name) {
		return fmt.Errorf("the entry %q leads out of the image", oneLine(h.Name, 200))
	}
	if h.Typeflag == tar.TypeLink && escapes(h.Linkname) {
		return fmt.Errorf("the link %q leads out of the image", oneLine(h.Name, 200))
	}
	if strings.ContainsRune(h.Name, 0) {
		return errors.New("has an entry with a zero byte in its name")
	}
	return nil
}

func escapes(name string) bool {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	return clean == ".." || strings.HasPrefix(clean, "../")
}

// binary reports whether content is not text, as git decides it.
func binary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0
}
