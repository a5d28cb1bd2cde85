//go:build !linux

package buildkit

import (
	"context"

	"github.com/slipway-cd/slipway"
)

type daemon struct{}

func (d *daemon) close(context.Context) error { return nil }
func (d *daemon) detach()                     {}
func (d *daemon) full() bool                  { return false }
func (d *daemon) wait(context.Context) error  { return nil }

func (d *daemon) allow(context.Context, string) error { return nil }

func connectOwn(context.Context, Options) (*link, error) {
	return nil, slipway.Errorf(slipway.Unavailable, "no BuildKit: Slipway starts its own on Linux only; give an address, or start Docker")
}

func machine(context.Context, Options) []Finding {
	return []Finding{{Name: "operating system", Needed: true, Detail: "not Linux", Do: "give the address of a BuildKit, or start Docker"}}
}

// Remove has nothing to remove.
func Remove(context.Context, Options, bool) error { return nil }

func runningDaemon(string) (string, bool) { return "", false }
