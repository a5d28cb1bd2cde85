package act

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// kept are deliveries as a store has them, and what was said of them.
type kept struct {
	Deliveries
	said []string
}

func (k *kept) FinishDeliveries(_ context.Context, ids []int64, reason string) error {
	k.said = append(k.said, fmt.Sprint("finish ", ids, " ", reason))
	return nil
}

func (k *kept) DelayDeliveries(_ context.Context, ids []int64, until time.Time, reason string) error {
	k.said = append(k.said, fmt.Sprint("delay ", ids, " ", until.Unix(), " ", reason))
	return nil
}

func push(id int64, attempts int) slipway.Received {
	return slipway.Received{ID: id, Attempts: attempts, Delivery: slipway.Delivery{Kind: slipway.DeliveryPush}}
}

func forgesOf(k *kept, mirror func() error) *Forges {
	x := New(Options{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1000, 0) }})
	return NewForges(x, ForgeOptions{
		Deliveries: k, Problem: func(context.Context, string, string, string) error { return nil },
		Mirror: func(context.Context, string, map[string]string) error { return mirror() },
	})
}

// What was tried often enough is given up, and nothing that came later with it; the pause is that of the newest.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	k := &kept{}
	f := forgesOf(k, func() error { return slipway.Errorf(slipway.Unavailable, "away %s", strings.Repeat("ä", 5000)) })
	if err := f.batch(t.Context(), Source{}, batch{kind: slipway.DeliveryPush, all: []slipway.Received{push(1, 300), push(2, 299), push(3, 0)}}); err != nil {
		t.Fatal(err)
	}
	if len(k.said) != 2 || !strings.HasPrefix(k.said[0], "finish [1] given up: away") || !strings.HasPrefix(k.said[1], "delay [2 3] 1001 away") || len(k.said[1]) > 1300 {
		t.Errorf("%.200q", k.said)
	}
}

// A delivery of which the server would die is tried later as any other, and what is broken is finished.
func TestPanic(t *testing.T) {
	t.Parallel()
	k := &kept{}
	f := forgesOf(k, func() error { panic("boom") })
	if err := f.batch(t.Context(), Source{}, batch{kind: slipway.DeliveryPush, all: []slipway.Received{push(1, 0)}}); err != nil {
		t.Fatal(err)
	}
	broken := push(2, 0)
	broken.Delivery = slipway.Delivery{Kind: slipway.DeliveryIgnored, Reason: "cannot be read: x"}
	if err := f.batch(t.Context(), Source{}, batch{kind: slipway.DeliveryIgnored, all: []slipway.Received{broken}}); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(k.said, "; "); text != "delay [1] 1001 panic: boom; finish [2] cannot be read: x" {
		t.Error(text)
	}
}

// secrets are the connections of a store in which a codebase is connected anew while its secret is read.
type secrets struct {
	Connections
	now  string
	read func()
}

func (s *secrets) Connection(context.Context, string) (slipway.Connection, error) {
	return slipway.Connection{}, nil
}

func (s *secrets) Credential(context.Context, string) (string, error) {
	had := s.now
	if s.read != nil {
		s.read()
	}
	return had, nil
}

// A secret that was read before a codebase was connected anew is not remembered after it.
func TestConnectedWhileASecretIsRead(t *testing.T) {
	t.Parallel()
	s := &secrets{now: "old"}
	f := NewForges(&Actions{}, ForgeOptions{Connections: s})
	s.read = func() {
		s.now, s.read = "new", nil
		f.forget("shop")
	}
	if k, err := f.hooked(t.Context(), "shop"); err != nil || k.secret != "old" {
		t.Errorf("%q, %v", k.secret, err)
	}
	if k, err := f.hooked(t.Context(), "shop"); err != nil || k.secret != "new" {
		t.Errorf("%q, %v", k.secret, err)
	}
}

// A pull request that cannot be taken over is tried again with a pause, and holds up no other; many in a row are left
// for the next time.
func TestSweep(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	f := NewForges(&Actions{}, ForgeOptions{})
	f.now = func() time.Time { return now }
	var took []int64
	sweep := func(broken func(int64) bool, numbers ...int64) error {
		took = nil
		s := f.sweep("shop")
		defer s.end()
		for _, n := range numbers {
			if !s.goOn(t.Context(), n, func() error {
				took = append(took, n)
				if broken(n) {
					return errors.New("no head")
				}
				return nil
			}) {
				break
			}
		}
		return s.err()
	}
	one := func(n int64) bool { return n == 2 }
	if err := sweep(one, 1, 2, 3); err == nil || fmt.Sprint(took) != "[1 2 3]" {
		t.Errorf("%v, %v", took, err)
	}
	if err := sweep(one, 1, 2, 3); err == nil || fmt.Sprint(took) != "[1 3]" {
		t.Errorf("at once: %v, %v", took, err)
	}
	now = now.Add(10 * time.Second)
	if err := sweep(one, 2, 3); err == nil || fmt.Sprint(took) != "[2 3]" {
		t.Errorf("later: %v, %v", took, err)
	}
	if err := sweep(one, 3); err != nil || len(f.stuck) != 0 {
		t.Errorf("gone: %v, %v", f.stuck, err)
	}
	all := func(int64) bool { return true }
	if err := sweep(all, 1, 2, 3, 4, 5, 6, 7); err == nil || fmt.Sprint(took) != "[1 2 3 4 5]" {
		t.Errorf("all: %v, %v", took, err)
	}
	if err := sweep(all, 1, 2, 3, 4, 5, 6, 7); err == nil || !strings.Contains(err.Error(), "7 pull requests") || fmt.Sprint(took) != "[6 7]" {
		t.Errorf("the rest: %v, %v", took, err)
	}
}
