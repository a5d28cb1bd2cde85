package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-cd/slipway"
)

// What was shown last is what may be decided on by the service's name; a run names what it is itself.
func TestDecisionsAreOnWhatWasShown(t *testing.T) {
	t.Setenv("SLIPWAY_CONFIG", filepath.Join(t.TempDir(), "new", "config.json"))
	const server = "http://slipway.test"
	waiting := func(run, id int64) slipway.Approval {
		return slipway.Approval{Project: "shop", Service: "cart", Environment: "production", RunID: run, ID: id, Version: "v1.1.0", State: slipway.ApprovalWaiting}
	}
	decide := func(a slipway.Approval, byRun bool, want slipway.Code) {
		t.Helper()
		if err := sameAsSeen(server, a, byRun); slipway.ErrorCode(err) != want {
			t.Errorf("run %d, approval %d, by run %t: %v, want %q", a.RunID, a.ID, byRun, err, want)
		}
	}
	decide(waiting(3, 7), false, "") // nothing was shown here
	rememberApprovals(server, waiting(3, 7))
	decide(waiting(3, 7), false, "")
	decide(waiting(4, 9), false, slipway.Conflict) // a newer version waits by now
	decide(waiting(4, 9), true, "")                // and is named
	decide(waiting(3, 8), true, slipway.Conflict)  // asked for again: the evidence is another
	rememberApprovals("http://other.test", waiting(1, 1))
	rememberApprovals(server, slipway.Approval{Project: "shop", Service: "mail", Environment: "qa", State: slipway.ApprovalWaiting})
	decide(waiting(4, 9), false, slipway.Conflict)
	rememberApprovals(server, waiting(4, 9))
	decide(waiting(4, 9), false, "")

	file, err := seenFile()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	decide(waiting(9, 9), false, "")
	rememberApprovals(server, waiting(9, 9))
	decide(waiting(9, 8), false, slipway.Conflict)
}

func TestHeadSeen(t *testing.T) {
	t.Setenv("SLIPWAY_CONFIG", filepath.Join(t.TempDir(), "config.json"))
	const server, head, other = "http://slipway.test", "1a2b3c4d5e6f708192a3b4c5d6e7f80910111213", "1a2b3c4fffffffffffffffffffffffffffffffff"
	if _, err := headSeen(server, slipway.PullRequest{Project: "shop", Number: 1}, ""); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("nothing was shown: %v", err)
	}
	rememberPulls(server, slipway.PullRequest{Project: "shop", Number: 1, Head: head, State: slipway.PullOpen}, slipway.PullRequest{Project: "shop", Number: 2, Head: other, State: slipway.PullMerged})
	for given, want := range map[string]string{"": head, "1a2b3c4": head, head: head, other: other, "1a2b": "1a2b", "fffffff": "fffffff"} {
		if got, err := headSeen(server, slipway.PullRequest{Project: "shop", Number: 1}, given); err != nil || got != want {
			t.Errorf("%q is %q, want %q (%v)", given, got, want, err)
		}
	}
	if _, err := headSeen(server, slipway.PullRequest{Project: "shop", Number: 2}, ""); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("a merged one: %v", err)
	}
	if _, err := headSeen(server, slipway.PullRequest{Project: "shop", Codebase: "web", Number: 1}, ""); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("another codebase's of that number: %v", err)
	}
}
