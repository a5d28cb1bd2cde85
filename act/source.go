package act

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/slipway-cd/slipway"
)

// Source is where a codebase is fetched from and which repository that is, as it was when a poll, or the work on a
// delivery, began. What came from it is acted on (Acting) only while the codebase is connected as it was then.
type Source struct {
	Codebase   slipway.Codebase
	Connection slipway.Connection // the zero value for one that is on no forge
	version    int                // of how it is connected
}

func (s Source) key() string { return s.Codebase.Key() }

// Asked reports whether there is a forge that says whose name it is that git is given: without a token, and for what
// is on no forge, there is nobody to ask.
func (s Source) Asked() bool { return s.Connection.Credential != "" && s.Connection.RepositoryID != "" }

// ErrConnectedAnew is why something ended, or is dropped, that began before its codebase was connected anew, or was
// removed: what it brought is not of what is connected now. Begun again, it is done with that.
var ErrConnectedAnew = errors.New("connected anew or removed meanwhile")

func anewError(codebase string) error {
	return slipway.Errorf(slipway.Unavailable, "%s was %w: what came before that is dropped", codebase, ErrConnectedAnew)
}

// orAnew is an error of what was done during a source, or why that ended.
func orAnew(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrConnectedAnew) {
		return cause
	}
	return err
}

// Source is how a codebase is connected now.
func (f *Forges) Source(ctx context.Context, codebase string) (s Source, err error) {
	f.mu.Lock()
	s.version = f.anew[codebase] // before the rest: what changes meanwhile is noticed by it
	f.mu.Unlock()
	if s.Codebase, err = f.x.o.Planner.Codebase(ctx, codebase); err != nil {
		return s, err
	}
	s.Connection, err = f.Connections.Connection(ctx, codebase)
	if slipway.ErrorCode(err) == slipway.NotFound {
		err = nil
	}
	return s, err
}

// During is a context that ends, caused by an error that is ErrConnectedAnew, when the codebase of a source is
// connected anew or removed: a fetch from the old place is not waited for. done is to be called.
func (f *Forges) During(ctx context.Context, s Source) (during context.Context, done func()) {
	during, cancel := context.WithCancelCause(ctx)
	id := &cancel
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.anew[s.key()] != s.version {
		cancel(anewError(s.key()))
		return during, func() {}
	}
	if f.under[s.key()] == nil {
		f.under[s.key()] = map[*context.CancelCauseFunc]bool{}
	}
	f.under[s.key()][id] = true
	return during, func() {
		cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.under[s.key()], id)
	}
}

// Acting begins to act on what came from a source, until release: meanwhile the codebase is neither connected anew
// nor removed through f. If it was since, the error is ErrConnectedAnew and nothing may be done. Where the lock of
// the project is needed too, this comes first.
func (f *Forges) Acting(ctx context.Context, s Source) (release func(), err error) {
	release = f.x.lock(actingOn(s.key()))
	f.mu.Lock()
	current := f.anew[s.key()] == s.version
	f.mu.Unlock()
	if !current {
		err = anewError(s.key())
	} else if err = context.Cause(ctx); err == nil {
		err = f.sameCodebase(ctx, s)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// actingOn is the name of a lock, which no project has.
func actingOn(codebase string) string { return "source " + codebase }

// sameCodebase looks whether the codebase of a source is there as it was, whoever changed that.
func (f *Forges) sameCodebase(ctx context.Context, s Source) error {
	now, err := f.x.o.Planner.Codebase(ctx, s.key())
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && (now.ID != s.Codebase.ID || now.GitURL != s.Codebase.GitURL) {
		return anewError(s.key())
	}
	return err
}

// change changes how a codebase is connected, while nothing is acted on that came from it and no webhook is
// received. What is under way from before ends, and what it brought is dropped.
func (f *Forges) change(codebase string, save func() error) error {
	defer f.x.lock(actingOn(codebase))()
	receiving := f.receivingOf(codebase)
	receiving.Lock()
	defer receiving.Unlock()
	defer f.forget(codebase)
	return save()
}

func (f *Forges) receivingOf(codebase string) *sync.RWMutex {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.receiving[codebase] == nil {
		f.receiving[codebase] = &sync.RWMutex{}
	}
	return f.receiving[codebase]
}

// forget drops what is known of a codebase and ends what is under way from it. It is called by change.
func (f *Forges) forget(codebase string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hooks, codebase)
	delete(f.taken, codebase)
	delete(f.stuck, codebase)
	f.anew[codebase]++
	under := slices.Collect(maps.Keys(f.under[codebase]))
	delete(f.under, codebase)
	for _, cancel := range under {
		(*cancel)(anewError(codebase))
	}
}
