package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// everyMirror is what the loop of the mirrors is woken by, in place of a codebase's key.
const everyMirror = ""

// Wake has the deliveries of a codebase worked off; it does not block.
func (m *Mirrors) Wake(codebase string) { m.wakes.wake(codebase) }

// Connected has what waits for a better connection of a codebase tried again; it does not block.
func (m *Mirrors) Connected(codebase string) {
	m.wakes.wake(codebase)
	m.again.wake(codebase)
	m.wakes.wake(everyMirror)
}

// wakes tells the loop of each codebase that there is something to do. Its zero value is ready.
type wakes struct {
	mu       sync.Mutex
	channels map[string]chan struct{}
}

// of is the channel that gets a value after a wake of a codebase; several at once are one.
func (w *wakes) of(codebase string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.channels == nil {
		w.channels = map[string]chan struct{}{}
	}
	if w.channels[codebase] == nil {
		w.channels[codebase] = make(chan struct{}, 1)
	}
	return w.channels[codebase]
}

func (w *wakes) wake(codebase string) {
	select {
	case w.of(codebase) <- struct{}{}:
	default:
	}
}

// polls is when each mirrored codebase was polled last, and with what success. It is not kept: a server polls when
// it starts. Its zero value is ready.
type polls struct {
	mu   sync.Mutex
	last map[string]slipway.Poll
}

// maxProblem bounds what is told of why a poll did nothing.
const maxProblem = 600

// note keeps how a poll ended, unless it was stopped.
func (p *polls) note(ctx context.Context, codebase string, at time.Time, err error) {
	if ctx.Err() != nil {
		return
	}
	one := slipway.Poll{Time: at}
	if err != nil {
		one.Problem = slipway.CleanLine(err.Error(), maxProblem)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[string]slipway.Poll{}
	}
	p.last[codebase] = one
}

func (p *polls) of(codebase string) slipway.Poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[codebase]
}

// locks keep two fetches of one repository apart: that of a webhook and that of the clock. Its zero value is ready.
type locks struct {
	mu sync.Mutex
	of map[string]*sync.Mutex
}

func (k *locks) lock(codebase string) (unlock func()) {
	k.mu.Lock()
	if k.of == nil {
		k.of = map[string]*sync.Mutex{}
	}
	l := k.of[codebase]
	if l == nil {
		l = &sync.Mutex{}
		k.of[codebase] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
