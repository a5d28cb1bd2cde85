// Package helmchart knows Helm charts: it loads, stamps, lints, renders and packages them with the
// Helm SDK, and holds the standard chart for services that have none. It implements chart.Helm.
//
// It reaches no cluster, no registry and no network: lookup finds nothing, host names are not
// resolved, a values.schema.json that refers to a URL is refused. Releases are another package's
// business.
package helmchart

import (
	"time"

	"github.com/slipway-cd/slipway/driver/subprocess"
)

// Helm is Helm's chart half. It is safe for concurrent use.
type Helm struct {
	opts  Options
	spare subprocess.Spare[*worker]
}

// Options bound what a chart may cost. The zero value means the defaults.
type Options struct {
	MaxFiles int           // of a chart folder; default 2000
	MaxBytes int64         // of a chart folder, and of its packed dependencies when unpacked; default 20 MiB
	Timeout  time.Duration // for linting and rendering a chart for all environments; a third of it for tracing; default 30s
	// Process is a command that calls Serve. Templates then run in a process of their own, which is
	// killed when it takes too long and bounded in memory; it answers further checks, and ends after a
	// minute without one. Without it they run in this process:
	// Helm's engine cannot be interrupted, so that a template that never ends keeps a goroutine and
	// its memory until the process exits.
	Process []string
	Temp    string           // folder in which charts are laid out for the linter; default that of the system
	Now     func() time.Time // default time.Now
}

// New returns Helm with those bounds.
func New(opts Options) *Helm {
	if opts.MaxFiles == 0 {
		opts.MaxFiles = 2000
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 20 << 20
	}
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Helm{opts: opts, spare: subprocess.Spare[*worker]{Wait: spareFor}}
}

// Close ends the idle process, if there is one.
func (h *Helm) Close() {
	if w, ok := h.spare.Take(); ok {
		w.End()
	}
}
