package web

import (
	"cmp"
	"context"
	"slices"

	"github.com/slipway-cd/slipway"
)

// mostAsking is how many approvals of a run are shown with all that they rest on; of others there is a line.
const mostAsking = 5

// asking is an approval that waits, with what a person looks at before they decide.
type asking struct {
	slipway.Approval
	Base     string // version of the revision that it replaces; "" when it is not known
	Evidence []evidence
}

// asking are the approvals of a run that wait: that of the step that was asked for first, and the first few others.
func (s *server) asking(ctx context.Context, by slipway.User, d slipway.RunDetail, step string) (out []asking, others []slipway.Approval, err error) {
	var waiting []slipway.Approval
	for _, a := range d.Approvals {
		if a.State == slipway.ApprovalWaiting {
			waiting = append(waiting, a)
		}
	}
	slices.SortStableFunc(waiting, func(a, b slipway.Approval) int { return cmp.Compare(boolInt(a.Step != step), boolInt(b.Step != step)) })
	for i, a := range waiting {
		if i == mostAsking {
			return out, waiting[i:], nil
		}
		ask := asking{Approval: a, Evidence: judged(d, a.Service, a.Environment)}
		if a.BaseRevision > 0 {
			past, err := s.Lists.History(ctx, by, a.Project, a.Environment, a.Service)
			if err != nil {
				return nil, nil, err
			}
			if i := slices.IndexFunc(past, func(x slipway.Deployment) bool { return x.Revision == a.BaseRevision }); i >= 0 {
				ask.Base = past[i].Version
			}
		}
		out = append(out, ask)
	}
	return out, nil, nil
}

// wentBack is a rollback that a run made by itself after something of it went wrong.
type wentBack struct {
	Service, Environment string
	From, To             string // versions; "" when they are not known
	Href                 string // of the step that stands for it
	State                slipway.StepState
	Quarantined          bool // From is not deployed again until a person lifts that
}

// backOf are the rollbacks of a run, other than one that a person asked for, with how the check after each ended.
func backOf(d slipway.RunDetail) (out []wentBack) {
	if d.Run.Event == slipway.RollbackCall {
		return nil
	}
	for i, st := range d.Steps {
		if st.Spec.Kind != slipway.KindRollback || st.State == slipway.StepSkipped || st.State == slipway.StepCancelled {
			continue
		}
		b := wentBack{Service: st.Spec.Service, Environment: st.Spec.Environment, Href: stepHref(d.Run.ID, st.Spec.Key), State: st.State}
		if r := st.Spec.Rollback; r != nil {
			b.From, b.To, b.Quarantined = r.From.Version, r.To.Version, r.Automatic
		}
		for _, check := range d.Steps[i+1:] {
			if st.State == slipway.StepSucceeded && slices.Contains(check.Spec.Needs, st.Spec.Key) {
				b.State, b.Href = check.State, stepHref(d.Run.ID, check.Spec.Key)
			}
		}
		out = append(out, b)
	}
	return out
}
