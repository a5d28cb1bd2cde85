package engine

import "github.com/slipway-cd/slipway/stage"

// wrap puts what every runner has around it around a runner, outermost first. Each part has the
// runner's own contract.
func (e *Engine) wrap(r stage.Runner) stage.Runner {
	r = recovered(e.opts.Log, r)
	r = abandoned(e.opts.Grace, r)
	r = timed(e.opts.Timeout, r)
	return e.captured(r)
}
