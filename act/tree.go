package act

import (
	"context"
	"fmt"
	"io/fs"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// Tree is the files of a commit. Whoever opened it closes it; an error of Close says that something
// could not be read, and that what was made of the tree must not be believed.
type Tree interface {
	fs.FS
	Close() error
}

// part is which part of a configuration was read.
type part string

const (
	servicesPart part = "services"
	policyPart   part = "policy"
)

// reading says what was read from where: a commit never changes, so neither does what it says.
type reading struct {
	codebase, commit string // key of the codebase
	part             part
	given            string // what it was read with: the registered clusters, the pins of the main codebase
}

// maxReadings bounds how many configurations are remembered: of one with 200 services, some 100 KiB.
const maxReadings = 128

// readings remembers the configurations that were read last. Its zero value is ready, it is safe for
// concurrent use, and what it returns must not be changed.
type readings struct {
	mu    sync.Mutex
	known map[reading]slipway.Config
	order []reading // oldest first
	last  []printed // those put last, oldest first
}

// printed is a reading with what of the commit it was made of.
type printed struct {
	reading
	config    slipway.Config
	footprint *config.Footprint
}

// maxPrinted bounds how many footprints are kept: one of 500 services is a megabyte.
const maxPrinted = 8

func (m *readings) get(k reading) (slipway.Config, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.known[k]
	return c, ok
}

// nearest is the reading put last that says the same of another commit of the project.
func (m *readings) nearest(k reading) (printed, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.last) - 1; i >= 0; i-- {
		of := m.last[i].reading
		if of.commit = k.commit; of == k {
			return m.last[i], true
		}
	}
	return printed{}, false
}

func (m *readings) put(k reading, c slipway.Config, f *config.Footprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.last) == maxPrinted {
		m.last = append(m.last[:0], m.last[1:]...)
	}
	m.last = append(m.last, printed{k, c, f})
	if _, ok := m.known[k]; ok {
		return
	}
	if m.known == nil {
		m.known = map[reading]slipway.Config{}
	}
	if len(m.order) == maxReadings {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
	m.known[k] = c
	m.order = append(m.order, k)
}

// inherit finds that a commit says what one that is remembered says, as nothing that matters to that is
// different. A repository that does not have one of the two, or too much that differs, is a no.
func (p *Planner) inherit(ctx context.Context, k reading) (slipway.Config, bool) {
	near, ok := p.read.nearest(k)
	if !ok {
		return slipway.Config{}, false
	}
	files, err := p.snapshot(k.codebase).FileChanges(ctx, near.commit, k.commit)
	if err != nil || len(files) > maxDiffering {
		return slipway.Config{}, false
	}
	changes := make([]config.Change, len(files))
	for i, f := range files {
		changes[i] = config.Change(f)
	}
	if !near.footprint.Same(changes) {
		return slipway.Config{}, false
	}
	p.read.put(k, near.config, near.footprint)
	return near.config, true
}

// load reads a part of a commit's configuration, unless it is remembered. Problems are the commit's,
// the error is trouble with reading it. One with problems is not remembered: that is rare, and would
// keep a slip of ours for as long as the commit is used.
func (p *Planner) load(ctx context.Context, k reading, open func(context.Context, string) (Tree, error), read func(fs.FS) (slipway.Config, config.Problems)) (slipway.Config, config.Problems, error) {
	if c, ok := p.read.get(k); ok {
		return c, nil, nil
	}
	if c, ok := p.inherit(ctx, k); ok {
		return c, nil, nil
	}
	files, err := open(ctx, k.commit)
	if err != nil {
		return slipway.Config{}, nil, fmt.Errorf("read commit %s: %w", slipway.ShortHash(k.commit), err)
	}
	seen := config.Watch(files)
	c, problems := read(seen)
	if err := files.Close(); err != nil {
		return slipway.Config{}, nil, fmt.Errorf("read commit %s: %w", slipway.ShortHash(k.commit), err)
	}
	if ctx.Err() != nil {
		return slipway.Config{}, nil, context.Cause(ctx)
	}
	if len(problems) == 0 {
		p.read.put(k, c, seen)
	}
	return c, problems, nil
}

// services are those of a commit of a codebase.
func (p *Planner) services(ctx context.Context, codebase, commit string, open func(context.Context, string) (Tree, error)) (slipway.Config, config.Problems, error) {
	o, linked, err := p.serviceOptions(ctx, codebase)
	if err != nil {
		return slipway.Config{}, nil, err
	}
	var mounts map[string]string
	watched := func(ctx context.Context, commit string) (Tree, error) {
		t, err := open(ctx, commit)
		if m, ok := t.(interface{ Mounts() map[string]string }); ok && err == nil {
			mounts = m.Mounts()
		}
		return t, err
	}
	return p.load(ctx, reading{codebase: codebase, commit: commit, part: servicesPart, given: given(o, linked)}, watched, func(files fs.FS) (slipway.Config, config.Problems) {
		return readServices(files, o, mounts, linked)
	})
}

// emptyTree is a tree without files.
type emptyTree struct{}

// Open finds nothing.
func (emptyTree) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
