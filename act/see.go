package act

import (
	"cmp"
	"context"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Board is the services of a project by environments, with what was changed there outside Slipway.
func (x *Actions) Board(ctx context.Context, by slipway.User, project string) (slipway.Board, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.Board{}, err
	}
	b, err := x.o.Planner.Board(ctx, project)
	if err == nil {
		x.observe(ctx, b)
	}
	return b, err
}

// mayView asks whether the user may see a project, and whether it is there.
func (x *Actions) mayView(ctx context.Context, by slipway.User, project string) error {
	if err := auth.Check(by, auth.View, project); err != nil {
		return err
	}
	_, err := x.o.Projects.Project(ctx, project)
	return err
}

// Runs lists runs of the projects that the user may see.
func (x *Actions) Runs(ctx context.Context, by slipway.User, f slipway.RunFilter) ([]slipway.Run, error) {
	if f.Project != "" {
		if err := x.mayView(ctx, by, f.Project); err != nil {
			return nil, err
		}
		return x.o.Runs.Runs(ctx, f)
	}
	if by.Name == "" {
		return nil, auth.Check(by, auth.View, "")
	}
	if by.Admin {
		return x.o.Runs.Runs(ctx, f)
	}
	mine := []slipway.Run{}
	for project := range by.Roles {
		if auth.Check(by, auth.View, project) != nil {
			continue
		}
		f.Project = project
		runs, err := x.o.Runs.Runs(ctx, f)
		if err != nil {
			return nil, err
		}
		mine = append(mine, runs...)
	}
	slices.SortFunc(mine, func(a, b slipway.Run) int { return cmp.Compare(b.ID, a.ID) })
	return mine[:min(len(mine), cmp.Or(f.Limit, defaultRuns))], nil
}

// defaultRuns is how many runs are listed when nobody says how many (slipway.RunFilter).
const defaultRuns = 50

// Run is a run with all that belongs to it.
func (x *Actions) Run(ctx context.Context, by slipway.User, id int64) (slipway.RunDetail, error) {
	return x.run(ctx, by, auth.View, id)
}

// Releases lists releases, newest first, each with where it was brought.
func (x *Actions) Releases(ctx context.Context, by slipway.User, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	if err := x.mayView(ctx, by, f.Project); err != nil {
		return nil, err
	}
	releases, err := x.o.Deployments.Releases(ctx, f)
	if err != nil || len(releases) == 0 {
		return releases, err
	}
	deployments, err := x.o.Deployments.Released(ctx, f.Project, releases[len(releases)-1].ID, releases[0].ID)
	if err != nil {
		return nil, err
	}
	where := map[string][]slipway.Deployment{}
	for _, d := range deployments {
		key := d.Target.Service + "/" + d.Version
		where[key] = append(where[key], d)
	}
	for i, r := range releases {
		releases[i].In = where[r.Service+"/"+r.Version]
	}
	return releases, nil
}

// History lists the deployments of a service in an environment, newest first.
func (x *Actions) History(ctx context.Context, by slipway.User, project, environment, service string) ([]slipway.Deployment, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	return x.o.Deployments.Deployments(ctx, slipway.DeploymentFilter{Project: project, Environment: environment, Service: service, Limit: 50})
}
