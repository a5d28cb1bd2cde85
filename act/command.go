package act

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// parseCommand reads what a comment asks for: its first line that is /slipway and a word, and perhaps a
// commit. Lines that are quoted or indented ask for nothing, nor do those in a block of code, which show how to ask, or
// in an HTML comment, which nobody sees.
func parseCommand(text string) (word, commit string) {
	var within unspoken
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "/slipway")
		if within.covers(line) || !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 || (rest[0] != ' ' && rest[0] != '\t') {
			continue
		}
		if len(fields) > 1 {
			commit = strings.ToLower(slipway.CleanLine(fields[1], 64))
		}
		return strings.ToLower(slipway.CleanLine(fields[0], 40)), commit
	}
	return "", ""
}

// unspoken is the part of a Markdown text that a line is in and that says nothing by itself: a fenced block of code or an
// HTML comment.
type unspoken struct {
	fence   string // that began the block: three or more backticks or tildes; "" outside
	comment bool
}

// covers takes the next line of the text, and reports whether it is in such a part, or begins or ends one.
func (u *unspoken) covers(line string) bool {
	line = strings.TrimRight(line, " \t\r\n")
	text := strings.TrimLeft(line, " ")
	indented := len(line)-len(text) > 3
	if u.comment {
		u.comment = !strings.Contains(line, "-->")
		return true
	}
	marks := text[:len(text)-len(strings.TrimLeft(text, "`"))]
	if marks == "" {
		marks = text[:len(text)-len(strings.TrimLeft(text, "~"))]
	}
	fence := len(marks) >= 3 && !indented
	switch {
	case u.fence != "":
		if fence && marks == text && strings.HasPrefix(marks, u.fence) {
			u.fence = ""
		}
		return true
	case fence && (marks[0] == '~' || !strings.Contains(text[len(marks):], "`")):
		u.fence = marks
		return true
	case strings.HasPrefix(text, "<!--") && !indented:
		u.comment = !strings.Contains(text, "-->")
		return true
	}
	return false
}

// comment obeys a comment, once. Whoever wrote it must have the right to write on the forge and, if the
// account is linked with a user, the role for it here.
func (f *Forges) comment(ctx context.Context, src Source, r slipway.Received) (string, error) {
	c, in := src.Connection, r.Delivery.Comment
	word, commit := parseCommand(in.Text)
	if word == "" {
		return "no command", nil
	}
	if had, ok, err := f.Commands.Command(ctx, c.Key(), in.ID); err != nil || ok {
		return "obeyed before: " + had.Answer, err
	}
	done := slipway.ForgeCommand{Project: c.Project, Codebase: c.Codebase, Comment: in.ID, Pull: in.Pull, Text: word, Author: in.Author.Name}
	by, err := f.mayCommand(ctx, src, in.Author)
	switch code := slipway.ErrorCode(err); {
	case code == slipway.Forbidden:
		done.Answer = "refused: " + err.Error()
		return done.Answer, f.Commands.SaveCommand(ctx, done)
	case err != nil:
		return "", err
	}
	release, err := f.Acting(ctx, src)
	if err != nil {
		return "", err
	}
	defer release()
	done.Allowed = true
	done.Answer, err = f.obey(ctx, c, by, r, word, commit)
	if code := slipway.ErrorCode(err); err != nil && (code == slipway.Unavailable || code == slipway.Internal) {
		return "", err
	}
	if err != nil {
		done.Answer = "refused: " + err.Error()
	}
	return done.Answer, f.Commands.SaveCommand(ctx, done)
}

// mayCommand returns as whom an account acts. The error is Forbidden for one that may not. Who owns the repository's
// name may write there: so whose that is, is asked before and after.
func (f *Forges) mayCommand(ctx context.Context, src Source, a slipway.Account) (string, error) {
	c := src.Connection
	if err := f.Confirm(ctx, src); err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "ask for the rights of %s: %w", a.Name, err)
	}
	client, err := f.open(ctx, c)
	if err != nil {
		return "", err
	}
	may, err := client.MayWrite(ctx, a)
	if err != nil {
		f.problem(ctx, c.Key(), "read", err)
		if slipway.ErrorCode(err) == slipway.Forbidden { // the token may not ask; that is not the author's fault
			return "", slipway.Errorf(slipway.Unavailable, "ask for the rights of %s: %w", a.Name, err)
		}
		return "", err
	}
	if err := f.Confirm(ctx, src); err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "ask for the rights of %s: %w", a.Name, err)
	}
	if !may {
		return "", slipway.Errorf(slipway.Forbidden, "%s has no right to write to %s", a.Name, c.Repository)
	}
	u, err := f.Commands.UserByAccount(ctx, c.API, a)
	if err != nil {
		return "", err
	}
	if u.Name != "" {
		if err := auth.Check(u, auth.RetryRun, c.Project); err != nil {
			return "", slipway.Errorf(slipway.Forbidden, "%s is %s here: %w", a.Name, u.Name, err)
		}
	}
	return f.actor(ctx, c, a), nil
}

func (f *Forges) obey(ctx context.Context, c slipway.Connection, by string, r slipway.Received, word, commit string) (string, error) {
	p, err := f.x.o.Pulls.Pull(ctx, c.Key(), r.Delivery.Comment.Pull)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return "", slipway.Errorf(slipway.Unavailable, "pull request %d is not known yet", r.Delivery.Comment.Pull)
	}
	if err != nil {
		return "", err
	}
	switch {
	case p.State != slipway.PullOpen:
		return "", slipway.Errorf(slipway.Conflict, "pull request %d is %s", p.Number, p.State)
	case commit != "" && (len(commit) < 7 || !strings.HasPrefix(p.Head, commit)):
		return "", slipway.Errorf(slipway.Conflict, "the head is %s, not %s", slipway.ShortHash(p.Head), commit)
	}
	switch word {
	case "retry":
		return f.retry(ctx, p, by)
	case "approve":
		// Who approves must have been able to see what they approve.
		if commit == "" && p.Held != "" && p.UpdatedAt.After(r.Time) {
			return "", slipway.Errorf(slipway.Conflict, "the head moved to %s after that was written: look at it and write `/slipway approve %s`", slipway.ShortHash(p.Held), slipway.ShortHash(p.Held))
		}
		run, err := f.x.admit(ctx, p, by)
		return fmt.Sprintf("run #%d is under way", run.ID), err
	}
	return "", slipway.Errorf(slipway.Invalid, "/slipway %s is no command: there are retry and approve", word)
}

// retry runs again what did not succeed of the newest run of the head; without one it makes one.
func (f *Forges) retry(ctx context.Context, p slipway.PullRequest, by string) (string, error) {
	if p.Held != "" {
		return "", slipway.Errorf(slipway.Conflict, "%s is of a fork and waits for `/slipway approve`", slipway.ShortHash(p.Held))
	}
	run, ran, err := f.newestRun(ctx, p)
	if err != nil {
		return "", err
	}
	if !ran {
		run, err := f.x.o.Runs.CreateRun(ctx, pullRun(p, by), FirstPlan())
		return fmt.Sprintf("run #%d is under way", run.ID), err
	}
	switch {
	case run.State == slipway.RunSucceeded:
		return fmt.Sprintf("run #%d has succeeded: there is nothing to retry", run.ID), nil
	case !run.State.Final():
		return fmt.Sprintf("run #%d is under way already", run.ID), nil
	}
	return fmt.Sprintf("run #%d is retried", run.ID), f.x.o.Runs.RetryRun(ctx, run.ID, by)
}

// admit lets the held head of a fork's pull request run.
func (x *Actions) admit(ctx context.Context, p slipway.PullRequest, by string) (slipway.Run, error) {
	if p.Held == "" {
		return slipway.Run{}, slipway.Errorf(slipway.Conflict, "pull request %d has no commit that waits for approval to run; reviews and merges are the forge's business", p.Number)
	}
	p.Head = p.Held
	return x.o.Held.RunHeld(ctx, keyOf(p), p.Number, p.Held, by, pullRun(p, by), FirstPlan())
}
