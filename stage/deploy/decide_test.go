package deploy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const stale = 15 * time.Minute

// TestDecide has a row for each status of the newest revision, whose it is, and its age where that
// matters; and checks that no combination is left out.
func TestDecide(t *testing.T) {
	t.Parallel()
	marks := map[owner]Marks{mine: {Intent: "me"}, ours: {Intent: "other", Run: "41"}, foreign: {}}
	type world struct {
		status Status
		whose  owner
		old    bool
	}
	rows := map[world]struct {
		do     Verb
		reason string
	}{
		{StatusDeployed, mine, false}:    {Adopt, "revision 7 is deployed and is this deployment"},
		{StatusDeployed, mine, true}:     {Adopt, "revision 7 is deployed and is this deployment"},
		{StatusDeployed, ours, false}:    {Act, "revision 7 is deployed"},
		{StatusDeployed, ours, true}:     {Act, "revision 7 is deployed"},
		{StatusDeployed, foreign, false}: {Act, "revision 7 is deployed, made outside Slipway (by hand)"},
		{StatusDeployed, foreign, true}:  {Act, "revision 7 is deployed, made outside Slipway (by hand)"},

		{StatusUninstalling, foreign, false}: {Wait, "revision 7 is uninstalling by another Helm client since 2026-11-21T11:50:00Z; it counts as abandoned at 2026-11-21T12:05:00Z"},
		{StatusUninstalling, foreign, true}:  {Recover, "abandoned: uninstalling outside Slipway since 2026-11-21T11:45:00Z"},
	}
	for _, s := range []Status{StatusSuperseded, StatusFailed, StatusUninstalled, StatusUnknown} {
		for _, old := range []bool{false, true} {
			rows[world{s, mine, old}] = struct {
				do     Verb
				reason string
			}{Act, fmt.Sprintf("revision 7 is %s", s)}
			rows[world{s, ours, old}] = rows[world{s, mine, old}]
			rows[world{s, foreign, old}] = struct {
				do     Verb
				reason string
			}{Act, fmt.Sprintf("revision 7 is %s, made outside Slipway (by hand)", s)}
		}
	}
	for _, s := range []Status{StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback, StatusUninstalling} {
		for _, old := range []bool{false, true} {
			rows[world{s, mine, old}] = struct {
				do     Verb
				reason string
			}{Recover, fmt.Sprintf("interrupted: %s by an earlier attempt of this step", s)}
			rows[world{s, ours, old}] = struct {
				do     Verb
				reason string
			}{Recover, fmt.Sprintf("interrupted: %s by slipway run 41", s)}
		}
		if s == StatusUninstalling {
			continue
		}
		rows[world{s, foreign, false}] = struct {
			do     Verb
			reason string
		}{Wait, fmt.Sprintf("revision 7 is %s by another Helm client since 2026-11-21T11:50:00Z; it counts as abandoned at 2026-11-21T12:05:00Z", s)}
		rows[world{s, foreign, true}] = struct {
			do     Verb
			reason string
		}{Recover, fmt.Sprintf("abandoned: %s outside Slipway since 2026-11-21T11:45:00Z", s)}
	}
	for _, s := range Statuses() {
		for _, whose := range []owner{mine, ours, foreign} {
			for _, old := range []bool{false, true} {
				want, ok := rows[world{s, whose, old}]
				if !ok {
					t.Errorf("no row for %s, %s, old %v", s, whose, old)
					continue
				}
				updated := noon.Add(-10 * time.Minute)
				if old {
					updated = noon.Add(-stale)
				}
				last := Revision{Number: 7, Status: s, Updated: updated, Description: "by hand", Marks: marks[whose]}
				got := Decide([]Revision{last, {Number: 6, Status: StatusSuperseded}}, Want{Intent: "me", Now: noon, StaleAfter: stale})
				if got.Do != want.do || got.Reason != want.reason || got.Revision != 7 {
					t.Errorf("%s, %s, old %v: got %+v, want %s %q", s, whose, old, got, want.do, want.reason)
				}
			}
		}
	}
}

func TestDecideOnHistory(t *testing.T) {
	t.Parallel()
	done := Revision{Number: 5, Status: StatusSuperseded, Marks: Marks{Intent: "me"}}
	byHand := Revision{Number: 6, Status: StatusDeployed, Description: "Upgrade complete"}
	byLaptop := Revision{Number: 6, Status: StatusDeployed, Description: "slipway run: laptop-1", Marks: Marks{Intent: "other", Run: "0"}}
	laptopAtWork := Revision{Number: 6, Status: StatusPendingUpgrade, Updated: noon, Marks: Marks{Intent: "other", Run: "0"}}
	bySlipway := Revision{Number: 6, Status: StatusDeployed, Marks: Marks{Intent: "other", Run: "43"}}
	for _, c := range []struct {
		name     string
		history  []Revision
		reported int
		want     Action
	}{
		{"no release", nil, 0, Action{Do: Act, Reason: "there is no release yet"}},
		{"ours was replaced by hand", []Revision{byHand, done}, 0,
			Action{Do: Refuse, Revision: 6, Reason: "revision 5 of this deployment was replaced by revision 6 outside Slipway (Upgrade complete)"}},
		{"ours was replaced from a laptop", []Revision{byLaptop, done}, 0,
			Action{Do: Refuse, Revision: 6, Reason: "revision 5 of this deployment was replaced by revision 6 outside Slipway (slipway run: laptop-1)"}},
		{"a laptop is at work, without our lock", []Revision{laptopAtWork, done}, 0,
			Action{Do: Wait, Revision: 6, Reason: "revision 6 is pending-upgrade by another Helm client since 2026-11-21T12:00:00Z; it counts as abandoned at 2026-11-21T12:15:00Z"}},
		{"replaced by hand, a person was told", []Revision{byHand, done}, 6,
			Action{Do: Act, Revision: 6, Reason: "revision 6 is deployed, made outside Slipway (Upgrade complete)"}},
		{"replaced again after a person was told", []Revision{{Number: 8, Status: StatusDeployed, Description: "again"}, byHand, done}, 6,
			Action{Do: Refuse, Revision: 8, Reason: "revision 5 of this deployment was replaced by revision 8 outside Slipway (again)"}},
		{"replaced by another run, such as a rollback", []Revision{bySlipway, done}, 0,
			Action{Do: Act, Revision: 6, Reason: "revision 6 is deployed"}},
		{"ours failed before, then by hand", []Revision{byHand, {Number: 5, Status: StatusFailed, Marks: Marks{Intent: "me"}}}, 0,
			Action{Do: Act, Revision: 6, Reason: "revision 6 is deployed, made outside Slipway (Upgrade complete)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := Decide(c.history, Want{Intent: "me", Now: noon, StaleAfter: stale, Reported: c.reported}); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestMarksFitLabels(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("ab", 32)
	if m := digestMark(digest); len(m) != 63 || !SameDigest(m, digest) {
		t.Errorf("mark %q of %s", m, digest)
	}
	if SameDigest("", "") || SameDigest(digestMark(digest), "sha256:"+strings.Repeat("ac", 32)) {
		t.Error("different digests count as the same")
	}
	for in, want := range map[string]string{
		"v1.0.2": "v1.0.2", "-main/x y-": "main-x-y", strings.Repeat("a", 62) + "-b": strings.Repeat("a", 62),
	} {
		if got := labelValue(in); got != want {
			t.Errorf("labelValue(%q) = %q, want %q", in, got, want)
		}
	}
}
