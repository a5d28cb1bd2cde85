// Package auth says who may do what: one table of roles and actions, read by the API, the web UI,
// the git server and the registry alike. It is pure; where identities come from (local tokens now,
// single sign-on later) is not its business.
package auth

import (
	"strings"

	"github.com/slipway-cd/slipway"
)

// Action is something a user may be allowed to do.
type Action string

const (
	View           Action = "view"            // see the project: runs, logs, reports, board, trace
	PullArtifacts  Action = "pull-artifacts"  // pull images and charts
	Clone          Action = "clone"           // read the repository
	PushBranch     Action = "push-branch"     // create, move and delete branches that no rule protects
	OpenPull       Action = "open-pull"       // open and update pull requests
	PushRelease    Action = "push-release"    // create and move release/<service>/<version>
	Merge          Action = "merge"           // merge a pull request that may be merged
	ClosePull      Action = "close-pull"      // close a pull request without merging it
	CancelRun      Action = "cancel-run"      //
	RetryRun       Action = "retry-run"       //
	PushCandidates Action = "push-candidates" // push images and charts to the candidates' namespace
	ReviewPull     Action = "review-pull"     // approve a pull request
	PushDefault    Action = "push-default"    // push to the default branch without a pull request
	Approve        Action = "approve"         // approve and reject deployments
	Rollback       Action = "rollback"        // roll back, lift a quarantine
	Waive          Action = "waive"           // let something through a gate until a day
	ManageProject  Action = "manage-project"  // members and settings of the project
	ManageServer   Action = "manage-server"   // projects, users, clusters, mirrored base images
)

// table is the least role that may do each action within a project. ManageServer is not in it: no
// role in a project gives it.
func table() map[Action]slipway.Role {
	return map[Action]slipway.Role{
		View:           slipway.Viewer,
		PullArtifacts:  slipway.Viewer,
		Clone:          slipway.Viewer,
		PushBranch:     slipway.Developer,
		OpenPull:       slipway.Developer,
		PushRelease:    slipway.Developer,
		Merge:          slipway.Developer,
		ClosePull:      slipway.Developer,
		CancelRun:      slipway.Developer,
		RetryRun:       slipway.Developer,
		PushCandidates: slipway.Developer,
		ReviewPull:     slipway.Approver,
		PushDefault:    slipway.Approver,
		Approve:        slipway.Approver,
		Rollback:       slipway.Approver,
		Waive:          slipway.Approver,
		ManageProject:  slipway.Admin,
	}
}

// Actions lists every action.
func Actions() []Action {
	return []Action{View, PullArtifacts, Clone, PushBranch, OpenPull, PushRelease, Merge, ClosePull, CancelRun, RetryRun,
		PushCandidates, ReviewPull, PushDefault, Approve, Rollback, Waive, ManageProject, ManageServer}
}

// Allowed reports whether a role may do an action within its project.
func Allowed(role slipway.Role, a Action) bool {
	least, ok := table()[a]
	return ok && rank(role) >= rank(least)
}

// words say an action in a project as people do, after "may not".
func (a Action) words(project string) string {
	switch a {
	case View:
		return "see project " + project
	case PullArtifacts:
		return "pull images and charts of " + project
	case Clone:
		return "read the repository of " + project
	case PushBranch:
		return "push to branches of " + project
	case OpenPull:
		return "open pull requests in " + project
	case PushRelease:
		return "push release branches and tags of " + project
	case Merge:
		return "merge pull requests of " + project
	case ClosePull:
		return "close pull requests of " + project
	case CancelRun:
		return "cancel runs of " + project
	case RetryRun:
		return "retry runs of " + project
	case PushCandidates:
		return "push images and charts of " + project
	case ReviewPull:
		return "approve pull requests of " + project
	case PushDefault:
		return "push to the default branch of " + project
	case Approve:
		return "approve or reject deployments of " + project
	case Rollback:
		return "roll back services of " + project
	case Waive:
		return "waive what the gates of " + project + " found"
	case ManageProject:
		return "manage members and settings of " + project
	case ManageServer:
		return "manage projects, users and clusters of the server"
	}
	return string(a)
}

func rank(r slipway.Role) int {
	for i, known := range slipway.Roles() {
		if r == known {
			return i + 1
		}
	}
	return 0
}

// Check returns nil when the user may do the action in the project ("" for actions on the server).
// A user without any role in the project is told that it does not exist. A robot may only pull, in
// its own project.
func Check(u slipway.User, a Action, project string) error {
	switch {
	case u.Name == "":
		return slipway.Errorf(slipway.Unauthorized, "sign in first: no valid token or session was given")
	case u.Robot != nil:
		if a == PullArtifacts && u.Robot.Project == project {
			return nil
		}
		return slipway.Errorf(slipway.Forbidden, "%s is a robot that may only pull images and charts of project %s", u.Name, u.Robot.Project)
	case u.Admin:
		return nil
	case a == ManageServer:
		return slipway.Errorf(slipway.Forbidden, "%s may not %s: only an admin of the server may", u.Name, a.words(""))
	case u.Role(project) == "":
		return slipway.Errorf(slipway.NotFound, "project %q does not exist, or you have no role in it", project)
	case !Allowed(u.Role(project), a):
		return slipway.Errorf(slipway.Forbidden, "%s may not %s: that takes the role %s, and %s is %s there",
			u.Name, a.words(project), table()[a], u.Name, u.Role(project))
	}
	return nil
}

// RefAction is the action that moving a ref takes, for a project's default branch. Refs that may
// not be pushed at all are an Invalid error.
func RefAction(ref, defaultBranch string) (Action, error) {
	if err := slipway.CheckRef(ref); err != nil {
		return "", err
	}
	switch {
	case ref == "refs/heads/"+defaultBranch:
		return PushDefault, nil
	case strings.HasPrefix(ref, "refs/heads/release/"):
		return PushRelease, nil
	case strings.HasPrefix(ref, "refs/heads/"):
		return PushBranch, nil
	case strings.HasPrefix(ref, "refs/tags/"):
		return PushRelease, nil
	case strings.HasPrefix(ref, "refs/for/"):
		return OpenPull, nil
	}
	return "", slipway.Errorf(slipway.Invalid, "ref %q: only branches, tags and refs/for/<branch> can be pushed", ref)
}
