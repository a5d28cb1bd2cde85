//go:build !linux

package buildkit

import (
	"context"
	"net/netip"

	"github.com/slipway-cd/slipway"
)

type daemon struct{}

func (d *daemon) close(context.Context) error { return nil }
func (d *daemon) detach()                     {}
func (d *daemon) full() bool                  { return false }
func (d *daemon) wait(context.Context) error  { return nil }

func (d *daemon) during(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (d *daemon) allow(context.Context, string) error { return nil }

type runNet struct{}

func (d *daemon) newRunNet() (*runNet, error) {
	return nil, slipway.Errorf(slipway.Unavailable, "services of tests: Slipway runs them on Linux only")
}

func (n *runNet) add(string, netip.Addr) error                            { return nil }
func (n *runNet) close() error                                            { return nil }
func (n *runNet) connect(context.Context, netip.AddrPort) error           { return nil }
func (n *runNet) check(context.Context, string, []string) (string, error) { return "", nil }
func (n *runNet) runs(context.Context, string) bool                       { return false }

func (n *runNet) wait(context.Context) {}

func connectOwn(context.Context, Options) (*link, error) {
	return nil, slipway.Errorf(slipway.Unavailable, "no BuildKit: Slipway starts its own on Linux only; give an address, or start Docker")
}

func machine(context.Context, Options) []Finding {
	return []Finding{{Name: "operating system", Needed: true, Detail: "not Linux", Do: "give the address of a BuildKit, or start Docker"}}
}

// Remove has nothing to remove.
func Remove(context.Context, Options, bool) error { return nil }
