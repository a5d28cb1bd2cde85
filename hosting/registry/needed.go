package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/olareg/olareg/types"
)

// needed is the digests that the index of a repository leads to, but for those that only the digests in
// without do, with what refers to them. What of those stays all the same, as an index that stays names it, is told
// with the name of that index.
func (r *Registry) needed(repository string, without []string) (out map[string]bool, stays map[string]string, err error) {
	index, err := readIndex(filepath.Join(r.disk.dir(repository), indexName))
	if err != nil {
		return nil, nil, err
	}
	t := tracing{disk: r.disk, repository: repository, out: map[string]bool{}, namedBy: map[string]string{}}
	stays = map[string]string{}
	for again := true; again; { // what stays keeps what refers to it, which may be an index
		goes, err := t.withReferrers(index, without, stays)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range index.Manifests {
			digest := d.Digest.String()
			if goes[digest] || goes[d.Annotations[types.AnnotReferrerSubject]] || goes[attachedTo(d.Annotations[types.AnnotRefName])] || t.out[digest] {
				continue
			}
			if err := t.follow(digest, cmp.Or(d.Annotations[types.AnnotRefName], digest), goes); err != nil {
				return nil, nil, err
			}
		}
		again = false
		for digest, going := range goes {
			if by := t.namedBy[digest]; going && by != "" {
				stays[digest], again = by, true
			}
		}
	}
	return t.out, stays, nil
}

// withReferrers are the digests that go, with what refers to them, and to that.
func (t tracing) withReferrers(index types.Index, without []string, stays map[string]string) (map[string]bool, error) {
	goes := map[string]bool{}
	for _, digest := range without {
		goes[digest] = stays[digest] == ""
	}
	seen := map[string]bool{}
	for again := true; again; {
		again = false
		for _, d := range index.Manifests {
			digest, to := d.Digest.String(), attachedTo(d.Annotations[types.AnnotRefName])
			if _, known := goes[digest]; goes[to] && !known && goesWith(index, digest, func(to string) bool { return goes[to] }) {
				goes[digest], again = stays[digest] == "", true
			}
			subject := d.Annotations[types.AnnotReferrerSubject]
			if !goes[subject] || seen[subject] {
				continue
			}
			seen[subject] = true
			list, err := t.disk.manifest(t.repository, d.Digest.String())
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, m := range append(list.content.Manifests, descriptor{Digest: d.Digest.String()}) {
				goes[m.Digest] = stays[m.Digest] == ""
			}
			again = true
		}
	}
	return goes, nil
}

// tracing follows manifests to what they name.
type tracing struct {
	disk       *disk
	repository string
	out        map[string]bool   // digests that were come by
	namedBy    map[string]string // manifest -> what it was come by from
}

// follow adds a manifest that the repository's index has as name, unless it refers to something that goes.
func (t tracing) follow(digest, name string, goes map[string]bool) error {
	if t.out[digest] {
		return nil
	}
	s, err := t.disk.manifest(t.repository, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an index may name platforms that were not pushed
	}
	if err != nil {
		return err
	}
	if goes[s.content.subject()] {
		return nil
	}
	t.out[digest] = true
	if s.content.Config != nil {
		t.out[s.content.Config.Digest] = true
	}
	for _, l := range s.content.Layers {
		t.out[l.Digest] = true
	}
	for _, m := range s.content.Manifests {
		if _, known := t.namedBy[m.Digest]; !known {
			t.namedBy[m.Digest] = name
		}
		if err := t.follow(m.Digest, name, goes); err != nil {
			return err
		}
	}
	return nil
}

// names are the manifests that an index leads to.
func (r *Registry) names(repository string, c content) ([]string, error) {
	t := tracing{disk: r.disk, repository: repository, out: map[string]bool{}, namedBy: map[string]string{}}
	var list []string
	for _, m := range c.Manifests {
		t.namedBy[m.Digest] = ""
		if err := t.follow(m.Digest, "", nil); err != nil {
			return nil, fmt.Errorf("manifests of an index: %w", err)
		}
	}
	for digest := range t.namedBy {
		list = append(list, digest)
	}
	slices.Sort(list)
	return list, nil
}
