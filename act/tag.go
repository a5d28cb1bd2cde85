package act

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/plan"
)

// runOfTag is the run that a tag makes, or nil and why it makes none: a tag runs the services whose
// trigger names it (S43).
func (x *Actions) runOfTag(ctx context.Context, at slipway.Codebase, push slipway.Push) (*slipway.Run, string, error) {
	tag := strings.TrimPrefix(push.Ref, "refs/tags/")
	repo := x.o.Planner.Repo(at.Key())
	commit, err := repo.Resolve(ctx, push.New) // push.New is the tag itself when it has a message
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil, fmt.Sprintf("tag %s names no commit: nothing runs", tag), nil
	}
	if err != nil {
		return nil, "", err
	}
	own, problems, err := x.o.Planner.services(ctx, at.Key(), commit, repo.Tree)
	if err != nil {
		return nil, "", err
	}
	if len(problems) > 0 {
		return nil, fmt.Sprintf("tag %s: nothing runs, as the configuration of commit %s is not valid", tag, slipway.ShortHash(commit)), nil
	}
	for _, s := range own.Services {
		if !plan.Tagged(s, push.Ref) {
			continue
		}
		subject, _, err := x.o.Repo(at.Key()).Subject(ctx, commit)
		if err != nil {
			subject = "" // the plan step says what is wrong with the commit
		}
		return &slipway.Run{Project: at.Project, Codebase: at.Name, Event: slipway.BranchPush, Ref: push.Ref, Commit: commit, Title: title(subject), Actor: push.Actor}, "", nil
	}
	return nil, fmt.Sprintf("tag %s: nothing runs, as no service's trigger names it", tag), nil
}
