package act

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Waivers is where waivers are kept that people gave.
type Waivers interface {
	Waivers(ctx context.Context, project string) ([]slipway.Waiver, error)
	Waiver(ctx context.Context, id int64) (slipway.Waiver, error)
	GiveWaiver(ctx context.Context, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, id int64, actor string) (slipway.Waiver, error)
}

// longestWaiver is how long a waiver may hold: what is waived for good belongs into the thresholds.
const longestWaiver = 366 * 24 * time.Hour

const maxSubject = 500 // bytes

// Waivers lists the waivers of a project: those of slipway.yaml on the default branch, then those that
// people gave, newest first, the ones that do not hold any more among them.
func (x *Actions) Waivers(ctx context.Context, by slipway.User, project string) ([]slipway.Waiver, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	given, err := x.o.Waivers.Waivers(ctx, project)
	if err != nil {
		return nil, err
	}
	c, err := x.o.Planner.Policy(ctx, project)
	if err != nil && slipway.ErrorCode(err) != slipway.Invalid {
		return nil, err
	}
	written := slices.Clone(c.Gates.Waivers)
	for _, e := range c.Environments {
		for _, w := range e.Gates.Waivers {
			if !slices.Contains(written, w) { // an environment has those of the project besides its own
				written = append(written, w)
			}
		}
	}
	return append(written, given...), nil
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
	return x.o.Waivers.GiveWaiver(ctx, w)
}

func checkWaiver(w slipway.Waiver, c slipway.Config, now time.Time) error {
	gates := gateNames(c)
	_, knownEnv := c.Environment(w.Environment)
	_, knownService := c.Service(w.Service)
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
		return slipway.Errorf(slipway.Invalid, "environment %q: slipway.yaml of the default branch has none of that name", w.Environment)
	case w.Service != "" && slipway.CheckName("service", w.Service) != nil && !knownService:
		return slipway.Errorf(slipway.Invalid, "service %q: not a name of a service", w.Service)
	case !w.Expires.After(now):
		return slipway.Errorf(slipway.Invalid, "the waiver would hold until %s, which is over: give a day to come", w.Expires.UTC().Format(time.DateOnly))
	case w.Expires.After(now.Add(longestWaiver)):
		return slipway.Errorf(slipway.Invalid, "the waiver would hold until %s: a year is the longest; what holds for good belongs into gates of slipway.yaml", w.Expires.UTC().Format(time.DateOnly))
	}
	return nil
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
