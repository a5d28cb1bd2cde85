package publish

import (
	"context"
	"sync"
)

// turns lets one at a time do something to a name. The zero value works; it is safe for concurrent use.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the one who has the name leaves
}

// enter waits until nobody has the name; leave must follow. The error is the cause for which ctx ended.
func (t *turns) enter(ctx context.Context, name string) (leave func(), err error) {
	for {
		busy, mine := t.take(name)
		if busy == nil {
			return func() { t.leave(name, mine) }, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (t *turns) take(name string) (busy, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if busy := t.held[name]; busy != nil {
		return busy, nil
	}
	if t.held == nil {
		t.held = map[string]chan struct{}{}
	}
	mine = make(chan struct{})
	t.held[name] = mine
	return nil, mine
}

func (t *turns) leave(name string, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, name)
	close(mine)
}
