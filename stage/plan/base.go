package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// MaxBases bounds the commits of a branch that one plan compares with. Services are done with at few different
// ones: a run takes along, to its own commit, every service that it leaves alone.
const MaxBases = 8

// Bases are the commits that a commit of a branch is compared with, the newest first, each for the services
// that the branch was done with there. They have no files and no configuration yet. The newest is among them
// whether or not a service needs it: it is what the branch was before.
//
// Services that are in none have never been done, or so long ago, beside MaxBases newer ones, that they are not
// compared: they run.
func Bases(b slipway.Built, services []slipway.Service) []Since {
	commits := map[string]int64{} // the newest run of each
	note := func(d slipway.Done) {
		if d.Commit != "" {
			commits[d.Commit] = max(commits[d.Commit], d.RunID)
		}
	}
	newest := b.Rest
	for _, d := range b.Services {
		if d.Commit != "" && d.RunID > newest.RunID {
			newest = d
		}
	}
	note(newest)
	all := true
	for _, s := range services {
		note(b.Of(s.Name))
		all = all && b.Of(s.Name).Commit == newest.Commit
	}
	var out []Since
	for commit := range commits {
		out = append(out, Since{Commit: commit, Services: map[string]bool{}})
	}
	slices.SortFunc(out, func(x, y Since) int {
		return cmp.Or(cmp.Compare(commits[y.Commit], commits[x.Commit]), cmp.Compare(x.Commit, y.Commit))
	})
	out = out[:min(len(out), MaxBases)]
	if len(out) == 1 && all {
		out[0].Services = nil
		return out
	}
	for _, s := range services {
		for i := range out {
			if out[i].Commit == b.Of(s.Name).Commit {
				out[i].Services[s.Name] = true
			}
		}
	}
	return out
}

// about reports whether what was built there says something of a service.
func (s Since) about(service string) bool { return s.Services == nil || s.Services[service] }

// alone is why a service runs that is not compared with anything.
func (q Question) alone(s slipway.Service) string {
	if d := q.Built.Of(s.Name); d.Commit != "" && len(q.Since) > 0 {
		return fmt.Sprintf("it was done last at %s, with which nothing is compared any more", slipway.ShortHash(d.Commit))
	}
	if len(q.Since) > 0 && q.Since[0].Config != nil {
		if _, there := q.Since[0].Config.Service(s.Name); !there {
			return q.appeared(s, *q.Since[0].Config)
		}
	}
	if len(q.Since) > 0 {
		return "no run has succeeded with it yet"
	}
	return cmp.Or(q.Nothing, "nothing was built before")
}

// unfinished is why a service runs that is as it was where it was done: a run after that may have left another
// state of it behind. It is "" when there is none.
func (q Question) unfinished(s slipway.Service) string {
	if id := q.Built.Unfinished[s.Name]; id != 0 {
		return fmt.Sprintf("it is as it was at %s, but run #%d took it up since and is not done with it", slipway.ShortHash(q.Built.Of(s.Name).Commit), id)
	}
	return ""
}

// waiting says that an earlier run waits for people with a service; "" when none does.
func (q Question) waiting(s slipway.Service) string {
	if w := q.Built.Waiting[s.Name]; w.RunID != 0 {
		return fmt.Sprintf("run #%d waits for people in %s with it, and gives way when this one does", w.RunID, show(w.Environment))
	}
	return ""
}
