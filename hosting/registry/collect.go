package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/olareg/olareg/types"

	"github.com/slipway-cd/slipway"
)

// Held is a manifest that a repository holds under its own name: an image, a chart, not what refers to
// one.
type Held struct {
	Repository string
	Digest     string
	Tags       []string  // none: by digest only
	Pushed     time.Time // when it was first pushed here
	Names      []string  // manifests that it names as an index, and those that they name
}

// Held lists what the repositories of a project's candidates hold. What is production's is never listed.
func (r *Registry) Held(ctx context.Context, project string) ([]Held, error) {
	names, err := r.candidates(project)
	if err != nil {
		return nil, err
	}
	var out []Held
	for _, name := range names {
		held, err := r.heldIn(name)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", name, err)
		}
		out = append(out, held...)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return out, nil
}

// candidates are the names of a project's repositories outside the production namespace.
func (r *Registry) candidates(project string) ([]string, error) {
	var names []string
	err := r.disk.repositories(func(dir string) error {
		rel, err := filepath.Rel(r.disk.root, dir)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if p := Parse(name); p.Namespace == Candidates && p.Project == project && r.disk.has(name) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

func (r *Registry) heldIn(repository string) ([]Held, error) {
	defer r.lock(repository)()
	index, err := readIndex(filepath.Join(r.disk.dir(repository), indexName))
	if err != nil {
		return nil, err
	}
	by := map[string]*Held{}
	var order []string
	for _, d := range index.Manifests {
		digest := d.Digest.String()
		if d.Annotations[types.AnnotReferrerSubject] != "" {
			continue
		}
		tag := d.Annotations[types.AnnotRefName]
		if fallbackTag.MatchString(tag) {
			continue
		}
		h := by[digest]
		if h == nil {
			body, err := r.disk.manifest(repository, digest)
			if err != nil {
				return nil, err
			}
			if body.content.subject() != "" {
				continue // it goes with what it refers to
			}
			h = &Held{Repository: repository, Digest: digest, Pushed: body.written}
			if h.Names, err = r.names(repository, body.content); err != nil {
				return nil, err
			}
			by[digest], order = h, append(order, digest)
		}
		if tag != "" && !slices.Contains(h.Tags, tag) {
			h.Tags = append(h.Tags, tag)
		}
	}
	out := make([]Held, len(order))
	for i, digest := range order {
		out[i] = *by[digest]
	}
	return out, nil
}

type stored struct {
	content content
	written time.Time
}

func (d *disk) manifest(repository, digest string) (stored, error) {
	path := d.blob(repository, digest)
	body, err := os.ReadFile(path)
	if err != nil {
		return stored{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return stored{}, err
	}
	s := stored{written: fi.ModTime()}
	if err := json.Unmarshal(body, &s.content); err != nil {
		return s, fmt.Errorf("manifest %s: %w", digest, err)
	}
	return s, nil
}

// removedAtOnce is how many manifests are removed while nobody can push to their repository.
const removedAtOnce = 100

// RemoveAll removes manifests from a repository of candidates, with all their names and everything that refers to
// them. What an index names that is not among them, or that comes far behind it in the list, stays. What is not there
// any more is success. The bytes are Collect's.
func (r *Registry) RemoveAll(ctx context.Context, repository string, digests []string) error {
	if Parse(repository).Namespace != Candidates {
		return fmt.Errorf("remove from %s: only candidates are removed", repository)
	}
	if !r.enter() {
		return slipway.Errorf(slipway.Unavailable, "remove from %s: the registry is stopping", repository)
	}
	defer r.leave()
	for some := range slices.Chunk(digests, removedAtOnce) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.removeChunk(ctx, repository, some); err != nil {
			return fmt.Errorf("remove from %s: %w", repository, err)
		}
	}
	return nil
}

func (r *Registry) removeChunk(ctx context.Context, repository string, digests []string) error {
	defer r.lock(repository)()
	if !r.disk.has(repository) {
		return nil
	}
	err := r.removeSome(ctx, repository, digests)
	return errors.Join(err, r.disk.syncIndex(repository))
}

// removeSome drops what nothing else names. The caller holds the repository's lock.
func (r *Registry) removeSome(ctx context.Context, repository string, digests []string) error {
	_, stays, err := r.needed(repository, digests)
	if err != nil {
		return err
	}
	for _, digest := range digests {
		if err := r.dropAll(ctx, repository, digest, stays, 0); err != nil {
			return err
		}
	}
	return nil
}

// Staying says which of the manifests cannot go without others of the repository, and what names each: an index
// that is not among them, by its tag or digest.
func (r *Registry) Staying(repository string, digests []string) (map[string]string, error) {
	defer r.lock(repository)()
	if !r.disk.has(repository) {
		return nil, nil
	}
	_, stays, err := r.needed(repository, digests)
	if err != nil {
		return nil, fmt.Errorf("find what %s needs: %w", repository, err)
	}
	return stays, nil
}

// deepest is how far what refers to something that refers to something is followed.
const deepest = 8

// dropAll drops a manifest after everything that refers to it, unless it stays. The list of that goes first: olareg would write a
// new one for each that is taken from it.
func (r *Registry) dropAll(ctx context.Context, repository, digest string, stays map[string]string, depth int) error {
	if stays[digest] != "" {
		return nil
	}
	attached, err := r.referrers(ctx, repository, digest)
	if err != nil {
		return err
	}
	index, err := readIndex(filepath.Join(r.disk.dir(repository), indexName))
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if d.Annotations[types.AnnotReferrerSubject] != digest {
			continue
		}
		if err := r.drop(ctx, repository, d.Digest.String()); err != nil {
			return err
		}
	}
	for _, d := range attached {
		if depth == deepest {
			break
		}
		if err := r.dropAll(ctx, repository, d, stays, depth+1); err != nil {
			return err
		}
	}
	if err := r.dropByTag(ctx, repository, digest, stays, depth); err != nil {
		return err
	}
	return r.drop(ctx, repository, digest)
}

// dropByTag drops what is attached to a digest by a tag, as by clients that know no referrers. What has other names
// too loses that tag.
func (r *Registry) dropByTag(ctx context.Context, repository, digest string, stays map[string]string, depth int) error {
	index, err := readIndex(filepath.Join(r.disk.dir(repository), indexName))
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		tag := d.Annotations[types.AnnotRefName]
		if attachedTo(tag) != digest {
			continue
		}
		own := d.Digest.String()
		if own == digest || depth == deepest || stays[own] != "" || !goesWith(index, own, func(to string) bool { return to == digest }) {
			err = r.drop(ctx, repository, tag)
		} else {
			err = r.dropAll(ctx, repository, own, stays, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// goesWith reports whether every tag of a manifest attaches it to a digest that goes.
func goesWith(index types.Index, digest string, goes func(digest string) bool) bool {
	return !slices.ContainsFunc(index.Manifests, func(d types.Descriptor) bool {
		tag := d.Annotations[types.AnnotRefName]
		return d.Digest.String() == digest && tag != "" && !goes(attachedTo(tag))
	})
}

func (r *Registry) drop(ctx context.Context, repository, ref string) error {
	rep, err := r.call(ctx, http.MethodDelete, repository, "manifests/"+ref, nil, nil)
	if err != nil {
		return err
	}
	if rep.status != http.StatusAccepted && rep.status != http.StatusNotFound {
		return rep.fault("remove " + repository + " " + ref)
	}
	return nil
}

// Collected is what a collection of a project's repositories freed, or would free.
type Collected struct {
	Blobs int
	Bytes int64 // on the disk: what another repository holds too is not among it
	Later int64 // bytes that nothing needs and that go when Options.Grace is over
}

// Collect removes the blobs of a project's candidates that no manifest needs and that nobody pushed or asked
// about for the time Options.Grace. With dry it removes nothing and says what it would, also without the
// digests given, by repository.
func (r *Registry) Collect(ctx context.Context, project string, dry bool, without map[string][]string) (Collected, error) {
	if !r.enter() {
		return Collected{}, slipway.Errorf(slipway.Unavailable, "collect what nothing needs of %s: the registry is stopping", project)
	}
	defer r.leave()
	names, err := r.candidates(project)
	if err != nil {
		return Collected{}, err
	}
	c := collection{dry: dry, young: r.opts.Now().Add(-r.opts.Grace), names: map[uint64]leaving{}}
	for _, name := range names {
		if ctx.Err() != nil {
			return c.sum, context.Cause(ctx)
		}
		if err := r.collect(name, without[name], &c); err != nil {
			return c.sum, fmt.Errorf("collect %s: %w", name, err)
		}
	}
	return c.sum, nil
}

// collection is one under way.
type collection struct {
	dry   bool
	young time.Time // what was made or asked about since stays for now
	names map[uint64]leaving
	sum   Collected
}

// leaving counts the names of an inode that go, at once and later.
type leaving struct{ now, later uint64 }

// count adds a name that goes. The bytes are free with the last.
func (c *collection) count(st *syscall.Stat_t, now bool) {
	n := c.names[st.Ino]
	all := uint64(st.Nlink)
	if !c.dry {
		all += n.now // is not among the names of the file any more
	}
	if now {
		n.now++
		c.sum.Blobs++
	} else {
		n.later++
	}
	c.names[st.Ino] = n
	switch {
	case n.now+n.later < all:
	case n.later > 0:
		c.sum.Later += st.Size
	default:
		c.sum.Bytes += st.Size
	}
}

func (r *Registry) collect(repository string, without []string, c *collection) error {
	defer r.lock(repository)()
	needed, _, err := r.needed(repository, without)
	if err != nil {
		return err
	}
	dir := r.disk.blobsDir(repository)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest := "sha256:" + e.Name()
		if needed[digest] || !digestExpr.MatchString(digest) {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		gone := false
		// a link is made at the time that its inode was changed, however old the content is
		if made := time.Unix(st.Ctim.Sec, st.Ctim.Nsec); !made.After(c.young) {
			gone, err = r.asked.unless(repository+digest, c.young, func() error {
				if c.dry {
					return nil
				}
				return os.Remove(filepath.Join(dir, e.Name()))
			})
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		c.count(st, gone)
	}
	if c.dry {
		return nil
	}
	return syncDir(dir)
}

// recently remembers which blobs clients were told of: they do not push them again.
type recently struct {
	mu    sync.Mutex
	at    map[string]time.Time
	sweep int // how many there are when the old ones are looked for
}

const fewRemembered = 10_000

func (a *recently) note(key string, now, young time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[string]time.Time{}
	}
	if len(a.at) >= max(a.sweep, fewRemembered) {
		maps.DeleteFunc(a.at, func(_ string, t time.Time) bool { return t.Before(young) })
		a.sweep = 2 * len(a.at)
	}
	a.at[key] = now
}

func (a *recently) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.at, key)
}

// unless does something unless the key was noted since: what is noted while it is done is noted after it.
func (a *recently) unless(key string, young time.Time, do func() error) (done bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at[key].After(young) {
		return false, nil
	}
	return true, do()
}

// tell reports whether a blob is there, for a client that is about to learn it. It is noted before looking, so that
// no collection comes between; of one that is not there nothing is kept, as anybody may ask for any digest. Who
// pushes it meanwhile needs no note: it is young.
func (r *Registry) tell(repository, digest string) bool {
	now := r.opts.Now()
	r.asked.note(repository+digest, now, now.Add(-r.opts.Grace))
	if r.disk.hasBlob(repository, digest) {
		return true
	}
	r.asked.forget(repository + digest)
	return false
}
