package act

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/promote"
)

// waiting are the services with which earlier runs wait for people, and for nothing else, and which are the same there:
// their code, chart and settings, what the default branch says of the environments that are before them, and of the
// gates there.
func (p *Planner) waiting(ctx context.Context, repo *snapshot, q plan.Question, in *plan.Input) (map[string]slipway.WaitingRun, error) {
	at := map[string][]string{} // services by commit
	for _, s := range in.Config.Services {
		if w := q.Built.Waiting[s.Name]; w.Commit != "" {
			at[w.Commit] = append(at[w.Commit], s.Name)
		}
	}
	if len(at) == 0 {
		return nil, nil
	}
	now := promote.Input{Project: in.Project, Run: in.Run, Config: in.Config}
	out := map[string]slipway.WaitingRun{}
	for _, commit := range newestFirst(at, q.Built) {
		changed, known, err := p.changedSince(ctx, repo, q, in, commit)
		if err != nil {
			return nil, err
		}
		for _, name := range at[commit] {
			w := q.Built.Waiting[name]
			now.Run.ID = w.RunID
			s, _ := in.Config.Service(name)
			if known && !changed[name].Changed && promote.AsPlanned(now, s, w.Steps) && sameGates(name, w, in.Config) {
				out[name] = w
			}
		}
	}
	return out, nil
}

// newestFirst are the commits of the newest runs, as many as are compared with.
func newestFirst(at map[string][]string, b slipway.Built) []string {
	newest := func(commit string) (id int64) {
		for _, name := range at[commit] {
			id = max(id, b.Waiting[name].RunID)
		}
		return id
	}
	all := slices.SortedFunc(maps.Keys(at), func(x, y string) int { return cmp.Or(cmp.Compare(newest(y), newest(x)), cmp.Compare(x, y)) })
	return all[:min(len(all), plan.MaxBases)]
}

// changedSince says what is different from an earlier commit, whatever the triggers and what was built; false when that
// cannot be known.
func (p *Planner) changedSince(ctx context.Context, repo *snapshot, q plan.Question, in *plan.Input, commit string) (map[string]plan.Change, bool, error) {
	files, err := repo.ChangedFiles(ctx, commit, in.Run.Commit)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	was, err := p.configAt(ctx, repo, in, commit)
	if err != nil || was == nil {
		return nil, false, err
	}
	q.Ref, q.Built, q.Since = "", slipway.Built{}, []plan.Since{{Config: was, Files: files, Commit: commit}}
	answer, err := affectedSince(ctx, repo, q, in.Run.Commit)
	return answer.Changes, true, err
}

// sameGates reports whether the gates on the way of a service demand what they did when that was planned. A waiver for
// another service makes no difference.
func sameGates(service string, w slipway.WaitingRun, now slipway.Config) bool {
	demanded := map[string]slipway.Gates{"": now.Gates}
	for _, s := range w.Steps {
		if e, ok := now.Environment(s.Environment); ok {
			demanded[s.Environment] = e.Gates
		}
	}
	for name, gates := range demanded {
		then, known := w.Gates[name]
		a, errA := json.Marshal(gatesOf(service, gates))
		b, errB := json.Marshal(gatesOf(service, then))
		if !known || errA != nil || errB != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}

func gatesOf(service string, g slipway.Gates) slipway.Gates {
	g = unplacedGates(g)
	g.Waivers = slices.DeleteFunc(g.Waivers, func(w slipway.Waiver) bool { return w.Service != "" && w.Service != service })
	return g
}
