package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/slipway-cd/slipway"
)

// inbox keeps deliveries. Those that come while one transaction is written go into the next one together,
// so that a storm of them costs few transactions, and they do not queue behind everything else.
type inbox struct {
	mu      sync.Mutex
	busy    bool // somebody leads
	pending []*arrival
}

// arrival is a delivery that is to be kept.
type arrival struct {
	codebase, content, state string // codebase is a key
	delivery                 slipway.Delivery
	fresh                    bool
	err                      error
	done                     chan struct{} // it is kept, or err says why not
	lead                     chan struct{} // whoever waits for it writes what is pending
}

// mostTogether bounds a transaction.
const mostTogether = 200

// ReceiveDelivery keeps what a codebase's webhook sent until it is processed; it is durable when ReceiveDelivery
// returns. It reports false for a delivery that came before, by its id or its content. What is already
// known to be ignored is kept as processed, so that its repetition is recognised.
func (s *Store) ReceiveDelivery(ctx context.Context, codebase string, d slipway.Delivery) (fresh bool, err error) {
	content, err := json.Marshal(d)
	if err != nil {
		return false, fmt.Errorf("encode delivery: %w", err)
	}
	a := &arrival{codebase: codebase, content: string(content), state: "received", delivery: d, done: make(chan struct{}), lead: make(chan struct{}, 1)}
	if d.Kind == slipway.DeliveryIgnored || d.Kind == slipway.DeliveryPing {
		a.state = "processed"
	}
	s.inbox.add(a)
	select {
	case <-a.done:
	case <-a.lead:
		s.keep(context.WithoutCancel(ctx), s.inbox.take()) // also for others, who did not hang up
		s.inbox.next()
	}
	return a.fresh, a.err
}

func (i *inbox) add(a *arrival) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pending = append(i.pending, a)
	if !i.busy {
		i.busy = true
		a.lead <- struct{}{}
	}
}

// take takes what is pending, the leader's own first.
func (i *inbox) take() []*arrival {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := min(len(i.pending), mostTogether)
	batch := i.pending[:n:n]
	i.pending = i.pending[n:]
	return batch
}

// next has the first of those that came meanwhile lead.
func (i *inbox) next() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.busy = len(i.pending) > 0; i.busy {
		i.pending[0].lead <- struct{}{}
	}
}

// keep writes deliveries together or, if one of them cannot be, each by itself.
func (s *Store) keep(ctx context.Context, batch []*arrival) {
	err := s.writeNow(ctx, func(t *tx) error {
		for _, a := range batch {
			if err := t.receive(a); err != nil {
				return err
			}
		}
		return nil
	})
	for _, a := range batch {
		if a.err = err; err != nil && len(batch) > 1 {
			a.err = s.writeNow(ctx, func(t *tx) error { return t.receive(a) })
		}
		close(a.done)
	}
}

func (t *tx) receive(a *arrival) error {
	project, name := slipway.SplitCodebase(a.codebase)
	n, err := t.exec(`INSERT INTO deliveries (project, codebase, delivery, digest, content, state, reason, due_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT DO NOTHING`, project, name, a.delivery.ID, a.delivery.Digest, a.content, a.state, a.delivery.Reason, ms(t.now), ms(t.now))
	a.fresh = n == 1
	if err != nil {
		return fmt.Errorf("keep delivery: %w", err)
	}
	return nil
}
