package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
)

// seen is what commands showed last on each server, so that what a person approves is what they looked
// at: heads of pull requests and approvals, by their place.
type seen map[string]map[string]string

// maxSeen bounds what is remembered of one server.
const maxSeen = 2000

func seenFile() (string, error) {
	file, err := configFile()
	return strings.TrimSuffix(file, ".json") + ".seen.json", err
}

// recall is what was shown last at a place of a server, "" for nothing.
func recall(server, place string) string { return loadSeen()[server][place] }

func loadSeen() seen {
	s := seen{}
	file, err := seenFile()
	if err != nil {
		return s
	}
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &s) != nil {
		return seen{} // as if nothing had been shown
	}
	return s
}

// remember keeps what is shown now. A folder that cannot be written to is no reason not to show it.
func remember(server string, shown map[string]string) {
	s := loadSeen()
	if s[server] == nil || len(s[server])+len(shown) > maxSeen {
		s[server] = map[string]string{}
	}
	for place, what := range shown {
		s[server][place] = what
	}
	file, err := seenFile()
	if err == nil {
		err = writeJSON(file, s)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(os.Stderr, "slipway: what was shown is not remembered: %s\n", slipway.Printable(err.Error()))
	}
}

// writeJSON replaces a file that only its owner may read.
func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

func pullPlace(p slipway.PullRequest) string { return "pull " + p.Project + "/" + p.Name() }

func approvalPlace(a slipway.Approval) string {
	return fmt.Sprintf("approval %s/%s@%s", a.Project, a.Service, a.Environment)
}

func approvalMark(a slipway.Approval) string { return fmt.Sprintf("#%d/%d", a.RunID, a.ID) }

// rememberPulls keeps the heads that are shown.
func rememberPulls(server string, pulls ...slipway.PullRequest) {
	shown := map[string]string{}
	for _, p := range pulls {
		if p.State == slipway.PullOpen {
			shown[pullPlace(p)] = p.Head
		}
	}
	remember(server, shown)
}

// rememberApprovals keeps what is shown waiting.
func rememberApprovals(server string, approvals ...slipway.Approval) {
	shown := map[string]string{}
	for _, a := range approvals {
		if a.State == slipway.ApprovalWaiting {
			shown[approvalPlace(a)] = approvalMark(a)
		}
	}
	if len(shown) > 0 {
		remember(server, shown)
	}
}

// sameAsSeen refuses to decide on what waits for a service when another one was shown last.
func sameAsSeen(server string, a slipway.Approval, byRun bool) error {
	last, now := recall(server, approvalPlace(a)), approvalMark(a)
	sameRun := strings.HasPrefix(last, fmt.Sprintf("#%d/", a.RunID))
	if last == "" || last == now || (byRun && !sameRun) || a.State != slipway.ApprovalWaiting {
		return nil
	}
	return slipway.Errorf(slipway.Conflict, "what waits for %s in %s is %s of run #%d now, and not what you were shown last: look at it again (slipway approvals --diff)", a.Service, a.Environment, a.Version, a.RunID)
}

// headSeen is the whole hash of the head that a person approves: the one they give, or the one that was
// shown last, which they may also give shortened.
func headSeen(server string, p slipway.PullRequest, given string) (string, error) {
	last := recall(server, pullPlace(p))
	if given == "" || (len(given) >= 7 && strings.HasPrefix(last, given)) {
		given = last
	}
	if given == "" {
		return "", slipway.Errorf(slipway.Invalid, "which commit of pull request %s did you look at? `slipway pulls show %s` shows it; then approve it, or say --head HASH", p.Name(), p.Name())
	}
	return given, nil
}
