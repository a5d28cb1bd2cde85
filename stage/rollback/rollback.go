// Package rollback plans the way back: from a deployment to an earlier, verified one of the same
// target, image and configuration together (D10). It is pure; the Helm of it is a runner's.
package rollback

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const slack = slipway.Duration(time.Minute)

// Input is what a way back follows from.
type Input struct {
	Target slipway.Target
	From   slipway.Deployment // what runs, or failed
	To     slipway.Deployment // where to go; ID 0: nothing was ever verified there
	Reason string             // for people: why From is left
	// Automatic is false when a person asked.
	Automatic bool
	Limits    slipway.Limits
	// Taken are the keys of the run's steps: a second rollback of a target in one run gets another
	// key. Empty for a run of its own.
	Taken []string
}

// Plan makes the plan: one rollback step, and a verification of what it brought back. When there is
// nothing to go back to, the failed first install is only taken away. A verification that fails
// after a rollback is left to people: it makes no further rollback.
func Plan(in Input) slipway.Plan {
	retries := in.Limits.Retries
	back := slipway.PlanStep{
		Key:  free(slipway.StepKey(slipway.KindRollback, in.Target.Service, in.Target.Environment), in.Taken),
		Kind: slipway.KindRollback, Service: in.Target.Service, Environment: in.Target.Environment,
		Timeout: max(in.Limits.DeployTimeout, in.Target.Timeout+slack), Retries: retries, Lock: in.Target.Lock(),
		Rollback: &slipway.RollbackSpec{Target: in.Target, From: in.From, To: in.To, Reason: in.Reason, Automatic: in.Automatic},
	}
	p := slipway.Plan{Steps: []slipway.PlanStep{back}}
	d := slipway.Decision{Service: in.Target.Service, Runs: true}
	if in.To.ID == 0 {
		d.Reason = fmt.Sprintf("runs: %s in %s is taken away, nothing was ever verified there: %s", in.From.Version, in.Target.Environment, in.Reason)
		p.Decisions = []slipway.Decision{d}
		return p
	}
	d.Reason = fmt.Sprintf("runs: %s goes back from %s to %s: %s", in.Target.Environment, in.From.Version, in.To.Version, in.Reason)
	p.Decisions = []slipway.Decision{d}
	p.Steps = append(p.Steps, slipway.PlanStep{
		Key:  free("verify-rollback/"+in.Target.Service+"@"+in.Target.Environment, in.Taken),
		Kind: slipway.KindVerify, Service: in.Target.Service, Environment: in.Target.Environment,
		Needs: []string{back.Key}, Timeout: 2*in.Target.Timeout + slack, Retries: retries, Lock: in.Target.Lock(),
		Verify: &slipway.VerifySpec{Target: in.Target, Version: in.To.Version, Mode: slipway.RollbackManual},
	})
	return p
}

// free is key, or key#2, key#3 ... when it is taken.
func free(key string, taken []string) string {
	for n, k := 2, key; ; n++ {
		if !slices.Contains(taken, k) {
			return k
		}
		k = fmt.Sprintf("%s#%d", key, n)
	}
}

// Choose picks from the history of one target, in any order, the deployment to go back to: the
// newest verified one (or verified and since replaced) of another version than the one that runs. to
// names a version instead; v1.0.2 and 1.0.2 are the same. quarantined says why a version must not be
// deployed, by version. It returns NotFound when there is nothing to go back to, Conflict when the
// version named may not be gone back to.
func Choose(history []slipway.Deployment, to string, quarantined slipway.Quarantines) (slipway.Deployment, error) {
	newest := slices.Clone(history)
	sort.SliceStable(newest, func(i, j int) bool { return newest[i].ID > newest[j].ID })
	current, ok := Current(newest)
	if !ok {
		return slipway.Deployment{}, slipway.Errorf(slipway.NotFound, "nothing is deployed there: there is nothing to roll back")
	}
	where := current.Target.Service + " in " + current.Target.Environment
	if to == "" {
		for _, d := range newest {
			if good(d) && !same(d.Version, current.Version) && quarantined.Why(d.Target.Service, d.Version) == "" {
				return d, nil
			}
		}
		return slipway.Deployment{}, slipway.Errorf(slipway.NotFound, "%s: no version other than %s was ever verified there (or only ones in quarantine), so there is nothing to go back to", where, current.Version)
	}
	return named(newest, current, where, to, quarantined)
}

func named(newest []slipway.Deployment, current slipway.Deployment, where, to string, quarantined slipway.Quarantines) (slipway.Deployment, error) {
	if same(to, current.Version) {
		return slipway.Deployment{}, slipway.Errorf(slipway.Conflict, "%s is %s already", where, current.Version)
	}
	var seen *slipway.Deployment
	for _, d := range newest {
		if !same(d.Version, to) {
			continue
		}
		if why := quarantined.Why(d.Target.Service, d.Version); why != "" {
			return slipway.Deployment{}, slipway.Errorf(slipway.Conflict, "%s: version %s is in quarantine (%s); lift that first, or choose another: %s", where, d.Version, why, choices(newest, current, quarantined))
		}
		if good(d) {
			return d, nil
		}
		if seen == nil {
			seen = &d
		}
	}
	if seen != nil {
		return slipway.Deployment{}, slipway.Errorf(slipway.Conflict, "%s: version %s was deployed there and is %s, never verified; verified there: %s", where, seen.Version, seen.State, choices(newest, current, quarantined))
	}
	return slipway.Deployment{}, slipway.Errorf(slipway.NotFound, "%s: version %s was never deployed there; verified there: %s", where, to, choices(newest, current, quarantined))
}

// Current is the deployment that runs, of a history with the newest first: the newest that Helm
// installed and nothing has replaced.
func Current(newestFirst []slipway.Deployment) (slipway.Deployment, bool) {
	for _, d := range newestFirst {
		switch d.State {
		case slipway.Deploying, slipway.Deployed, slipway.Verified, slipway.Unhealthy:
			return d, true
		}
	}
	return slipway.Deployment{}, false
}

func good(d slipway.Deployment) bool {
	return d.State == slipway.Verified || (d.State == slipway.Replaced && !d.VerifiedAt.IsZero())
}

// same reports whether two versions are one: equal, or equal by SemVer.
func same(a, b string) bool {
	if a == b {
		return true
	}
	v, err := slipway.ParseVersion(a)
	w, err2 := slipway.ParseVersion(b)
	return err == nil && err2 == nil && v.Compare(w) == 0
}

func choices(newest []slipway.Deployment, current slipway.Deployment, quarantined slipway.Quarantines) string {
	var out []string
	for _, d := range newest {
		if good(d) && !same(d.Version, current.Version) && quarantined.Why(d.Target.Service, d.Version) == "" && !slices.Contains(out, d.Version) {
			out = append(out, d.Version)
		}
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}
