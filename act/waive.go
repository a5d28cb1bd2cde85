package act

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Waivers is where waivers are kept that people gave.
type Waivers interface {
	Waivers(ctx context.Context, f slipway.WaiverFilter) ([]slipway.Waiver, error)
	Waiver(ctx context.Context, id int64) (slipway.Waiver, error)
	GiveWaiver(ctx context.Context, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, id int64, actor string) (slipway.Waiver, error)
}

// longestWaiver is how long a waiver may hold: what is waived for good belongs into the thresholds.
const longestWaiver = 366 * 24 * time.Hour

const maxSubject = 500 // bytes

// Waivers lists the waivers of a project: those of slipway.yaml on the default branch, but for further pages, then
// those that people gave: all that hold and the newest of those that do not hold any more. One that holds for a service
// or an environment that the project does not have says so.
func (x *Actions) Waivers(ctx context.Context, by slipway.User, f slipway.WaiverFilter) ([]slipway.Waiver, error) {
	if err := auth.Check(by, auth.View, f.Project); err != nil {
		return nil, err
	}
	given, err := x.o.Waivers.Waivers(ctx, f)
	if err != nil || f.Before != 0 {
		return given, err
	}
	c, err := x.o.Planner.Policy(ctx, f.Project)
	if err != nil && slipway.ErrorCode(err) != slipway.Invalid {
		return nil, err
	}
	var environments []string // nil: not known
	if err == nil {
		environments = environmentNames(c)
	}
	written := slices.Clone(c.Gates.Waivers)
	for _, e := range c.Environments {
		for _, w := range e.Gates.Waivers {
			if !slices.Contains(written, w) { // an environment has those of the project besides its own
				written = append(written, w)
			}
		}
	}
	if f.Holding {
		written = slices.DeleteFunc(written, func(w slipway.Waiver) bool { return !w.Holds(x.o.Now()) })
	}
	all := append(written, given...)
	services, err := x.o.Planner.serviceNames(ctx, f.Project, all)
	for i, w := range all {
		switch {
		case !w.Holds(x.o.Now()):
		case services != nil && w.Service != "" && !slices.Contains(services, w.Service):
			all[i].Problem = "there is no service " + w.Service
		case environments != nil && w.Environment != "" && !slices.Contains(environments, w.Environment):
			all[i].Problem = "there is no environment " + w.Environment
		}
	}
	return all, err
}

// GiveWaiver lets something through a gate until a day. A signature is waived by admins of the project only.
func (x *Actions) GiveWaiver(ctx context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error) {
	action := auth.Waive
	if w.Gate == slipway.GateSignatures { // what cannot prove where it comes from
		action = auth.ManageProject
	}
	if err := auth.Check(by, action, w.Project); err != nil {
		return slipway.Waiver{}, err
	}
	w.ID, w.Author, w.Place, w.Withdrawn = 0, by.Name, "", time.Time{}
	w.Subject = strings.TrimSpace(w.Subject)
	var err error
	if w.Reason, err = checkReason(w.Reason); err != nil {
		return slipway.Waiver{}, err
	}
	c, err := x.o.Planner.Policy(ctx, w.Project)
	if err != nil && slipway.ErrorCode(err) != slipway.Invalid {
		return slipway.Waiver{}, err
	}
	if err := checkWaiver(w, c, x.o.Now()); err != nil {
		return slipway.Waiver{}, err
	}
	if err := x.KnowsService(ctx, w.Project, w.Service); err != nil {
		return slipway.Waiver{}, err
	}
	return x.o.Waivers.GiveWaiver(ctx, w)
}

func checkWaiver(w slipway.Waiver, c slipway.Config, now time.Time) error {
	gates := gateNames(c)
	_, knownEnv := c.Environment(w.Environment)
	switch {
	case !slices.Contains(gates, w.Gate):
		return slipway.Errorf(slipway.Invalid, "gate %q: there is no such gate; there are %s", w.Gate, strings.Join(gates, ", "))
	case w.Subject == "" || len(w.Subject) > maxSubject || strings.ContainsAny(w.Subject, "\n\r\x00"):
		return slipway.Errorf(slipway.Invalid, "name what is waived, in one line of at most %d characters, as `slipway gates` shows it: CVE-2024-1234 openssl, for example; a * stands for any characters", maxSubject)
	case strings.Trim(w.Subject, "* ") == "":
		return slipway.Errorf(slipway.Invalid, "the subject %q would waive everything of gate %s: name what is waived, or set the gate's level in slipway.yaml", w.Subject, w.Gate)
	case w.Reason == "":
		return slipway.Errorf(slipway.Invalid, "say why: a reason is kept with the waiver")
	case w.Environment != "" && !knownEnv:
		return slipway.Errorf(slipway.Invalid, "environment %q: slipway.yaml of the default branch has none of that name%s", w.Environment, nearest(w.Environment, environmentNames(c)))
	case !w.Expires.After(now):
		return slipway.Errorf(slipway.Invalid, "the waiver would hold until %s, which is over: give a day to come", w.Expires.UTC().Format(time.DateOnly))
	case w.Expires.After(now.Add(longestWaiver)):
		return slipway.Errorf(slipway.Invalid, "the waiver would hold until %s: a year is the longest; what holds for good belongs into gates of slipway.yaml", w.Expires.UTC().Format(time.DateOnly))
	}
	return nil
}

// KnowsService refuses a service that a project does not have: neither on the default branches of its codebases nor
// in an environment or a run.
func (x *Actions) KnowsService(ctx context.Context, project, service string) error {
	if service == "" {
		return nil
	}
	b, err := x.o.Planner.Board(ctx, project)
	if err != nil {
		return err
	}
	var names []string
	for _, row := range b.Rows {
		names = append(names, row.Service)
	}
	if slices.Contains(names, service) {
		return nil
	}
	return slipway.Errorf(slipway.Invalid, "service %q: project %s has no service of that name%s", service, project, nearest(service, names))
}

// KnowsEnvironment refuses an environment that a project does not have.
func (x *Actions) KnowsEnvironment(ctx context.Context, project, environment string) error {
	b, err := x.o.Planner.Board(ctx, project)
	if err != nil {
		return err
	}
	if slices.Contains(b.Environments, environment) {
		return nil
	}
	return slipway.Errorf(slipway.Invalid, "environment %q: project %s has no environment of that name%s", environment, project, nearest(environment, b.Environments))
}

// mostNear is how many names are offered in place of one that is not known.
const mostNear = 3

// nearest names what may have been meant in place of a name; when nothing is near, the first of what there is.
func nearest(name string, known []string) string {
	type near struct {
		name     string
		distance int
	}
	var all []near
	name = name[:min(60, len(name))]
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(k), nil); d <= max(2, len(name)/3) && d < len(k) {
			all = append(all, near{k, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, n := range all[:min(mostNear, len(all))] {
		names = append(names, n.name)
	}
	switch {
	case len(names) > 0:
		return "; did you mean " + strings.Join(names, " or ") + "?"
	case len(known) == 0:
		return "; it has none yet"
	case len(known) > 10:
		return fmt.Sprintf("; it has %s and %d more", strings.Join(known[:10], ", "), len(known)-10)
	}
	return "; it has " + strings.Join(known, ", ")
}

func environmentNames(c slipway.Config) (names []string) {
	for _, e := range c.Environments {
		names = append(names, e.Name)
	}
	return names
}

// gateNames are the gates that are built in, and the rules of a configuration.
func gateNames(c slipway.Config) []string {
	names := slipway.GateNames()
	rules := slices.Clone(c.Gates.Rules)
	for _, e := range c.Environments {
		rules = append(rules, e.Gates.Rules...)
	}
	for _, r := range rules {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// WithdrawWaiver takes back a waiver that a person gave.
func (x *Actions) WithdrawWaiver(ctx context.Context, by slipway.User, id int64) (slipway.Waiver, error) {
	w, err := x.o.Waivers.Waiver(ctx, id)
	if err == nil {
		err = auth.Check(by, auth.Waive, w.Project)
	} else if by.Name == "" {
		err = auth.Check(by, auth.Waive, "")
	}
	if slipway.ErrorCode(err) == slipway.NotFound {
		err = slipway.Errorf(slipway.NotFound, "waiver %d does not exist, or you have no role in its project; one of slipway.yaml is taken out there", id)
	}
	if err != nil {
		return slipway.Waiver{}, err
	}
	return x.o.Waivers.WithdrawWaiver(ctx, id, by.Name)
}
