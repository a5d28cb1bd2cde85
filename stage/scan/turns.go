package scan

import (
	"context"
	"sync"
)

// Turns keeps those apart that would do the same at once. The zero value is ready; nil keeps nobody apart.
type Turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed at the end of the turn
}

// take waits for the turn of a key, which lasts until done is called.
func (t *Turns) take(ctx context.Context, key string) (done func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	for {
		t.mu.Lock()
		other, busy := t.busy[key]
		if !busy {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, key)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
