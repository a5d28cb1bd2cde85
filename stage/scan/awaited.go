package scan

import (
	"context"
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// Waits is what waits for people.
type Waits interface {
	// Approvals are those of a project, "" for all, in a state.
	Approvals(ctx context.Context, project string, state slipway.ApprovalState) ([]slipway.Approval, error)
	Run(ctx context.Context, id int64) (slipway.RunDetail, error)
}

// awaited are the images that wait for people before they are deployed, and where they are. Those of which the report
// of another scanner speaks are left to it.
func (w *Watch) awaited(ctx context.Context) ([]Candidate, error) {
	approvals, err := w.Waits.Approvals(ctx, "", slipway.ApprovalWaiting)
	if err != nil {
		return nil, err
	}
	var out []Candidate
	for _, a := range approvals {
		d, err := w.Waits.Run(ctx, a.RunID)
		if err != nil {
			return nil, fmt.Errorf("read run #%d, which waits for approval %d: %w", a.RunID, a.ID, err)
		}
		foreign := slices.ContainsFunc(d.Steps, func(st slipway.Step) bool {
			return st.Spec.Service == a.Service && st.Spec.Scan != nil && len(st.Spec.Scan.Reports) > 0
		})
		at := slices.IndexFunc(d.Artifacts, func(x slipway.Artifact) bool {
			return x.Kind == slipway.ArtifactImage && x.Service == a.Service && x.Digest == a.ImageDigest
		})
		if foreign || at < 0 {
			continue
		}
		c := Candidate{Project: a.Project, Repository: w.Candidates.Recorded(d.Artifacts[at].Repository), Digest: a.ImageDigest}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}
