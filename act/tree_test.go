package act

import (
	"strconv"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

// However many commits are read, by many at once, only so many are remembered, and each as it is.
func TestReadingsAreBounded(t *testing.T) {
	t.Parallel()
	var m readings
	key := func(i int) reading { return reading{codebase: "shop", commit: strconv.Itoa(i), part: servicesPart} }
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 3 * maxReadings {
				m.put(key(i), slipway.Config{Limits: slipway.Limits{Retries: i}}, nil)
				if c, ok := m.get(key(i)); ok && c.Limits.Retries != i {
					t.Errorf("commit %d is remembered as %d", i, c.Limits.Retries)
				}
			}
		})
	}
	all.Wait()
	if len(m.known) != maxReadings || len(m.order) != maxReadings || len(m.last) != maxPrinted {
		t.Errorf("%d are remembered, in an order of %d, and %d footprints", len(m.known), len(m.order), len(m.last))
	}
	last := key(3*maxReadings - 1)
	if _, ok := m.get(last); !ok {
		t.Error("the last one is forgotten")
	}
	other := last
	other.part = policyPart
	if _, ok := m.get(other); ok {
		t.Error("another part of the commit is remembered")
	}
}
