package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

const pullColumns = `project, number, title, base, topic, head, author, state, merged_as, reviewers, forge, link, fork, held, created_at, updated_at, codebase`

func scanPull(r scanner) (p slipway.PullRequest, err error) {
	var reviewers string
	err = r.Scan(&p.Project, &p.Number, &p.Title, &p.Base, &p.Topic, &p.Head, &p.Author, &p.State, &p.MergedAs,
		&reviewers, &p.Forge, &p.Link, &p.Fork, &p.Held, stamp{&p.CreatedAt}, stamp{&p.UpdatedAt}, &p.Codebase)
	p.Reviewers = strings.Fields(reviewers)
	return p, err
}

// pullTitle names a pull request in a sentence.
func pullTitle(p slipway.PullRequest) string {
	return fmt.Sprintf("pull request #%d%s", p.Number, inCodebase(p.Codebase))
}

// OpenPull opens a pull request, or brings the open one of the same author, base and topic up to date
// with a new head and title. The second result is true when it was opened.
func (s *Store) OpenPull(ctx context.Context, p slipway.PullRequest) (slipway.PullRequest, bool, error) {
	var opened bool
	var out slipway.PullRequest
	err := s.write(ctx, func(t *tx) error {
		old, ok, err := one(ctx, t, scanPull, `SELECT `+pullColumns+` FROM pulls
			WHERE project = $1 AND author = $2 AND base = $3 AND topic = $4 AND codebase = $5 AND state = 'open' AND forge = 0`, p.Project, p.Author, p.Base, p.Topic, p.Codebase)
		if err != nil {
			return err
		}
		if ok {
			out, err = t.updatePull(old, p)
			return err
		}
		opened = true
		out, err = t.openPull(p)
		return err
	})
	return out, opened, err
}

func (t *tx) openPull(p slipway.PullRequest) (slipway.PullRequest, error) {
	out, _, err := one(t.ctx, t, scanPull, `INSERT INTO pulls (project, number, title, base, topic, head, author, state, created_at, updated_at, codebase)
		VALUES ($1, (SELECT coalesce(max(number), 0) + 1 FROM pulls WHERE project = $2 AND (forge = 0 OR codebase = $3)), $4, $5, $6, $7, $8, 'open', $9, $10, $11) RETURNING `+pullColumns,
		p.Project, p.Project, p.Codebase, p.Title, p.Base, p.Topic, p.Head, p.Author, ms(t.now), ms(t.now), p.Codebase)
	if err != nil {
		return out, fmt.Errorf("open pull request: %w", err)
	}
	return out, t.pullEvent(out, 0, "opened", out.Author, "%s opened: %s", pullTitle(out), out.Title)
}

func (t *tx) updatePull(old, p slipway.PullRequest) (slipway.PullRequest, error) {
	if p.Title == "" {
		p.Title = old.Title
	}
	if old.Head == p.Head && old.Title == p.Title {
		return old, nil
	}
	if _, err := t.exec(`UPDATE pulls SET head = $1, title = $2, reviewers = '', updated_at = $3, moves = moves + 1 WHERE project = $4 AND codebase = $5 AND number = $6 AND state = 'open'`,
		p.Head, p.Title, ms(t.now), old.Project, old.Codebase, old.Number); err != nil {
		return old, fmt.Errorf("update pull request #%d: %w", old.Number, err)
	}
	old.Head, old.Title, old.UpdatedAt = p.Head, p.Title, t.now
	moves, err := t.pullMoves(old)
	if err != nil {
		return old, err
	}
	return old, t.pullEvent(old, moves, "updated", old.Author, "%s is now at %s", pullTitle(old), slipway.ShortHash(old.Head))
}

// pullMoves is how often a pull request moved.
func (t *tx) pullMoves(p slipway.PullRequest) (int64, error) {
	moves, _, err := one(t.ctx, t, scanInt, `SELECT moves FROM pulls WHERE project = $1 AND codebase = $2 AND number = $3`, p.Project, p.Codebase, p.Number)
	return moves, err
}

func (t *tx) pullEvent(p slipway.PullRequest, moves int64, verb, actor, format string, args ...any) error {
	return t.event(fmt.Sprintf("pull/%s/%d/%d/%s", slipway.CodebaseKey(p.Project, p.Codebase), p.Number, moves, verb), slipway.Event{
		Kind: "pull." + verb, Project: p.Project, Actor: actor, Message: fmt.Sprintf(format, args...), Data: pullData(p),
	})
}

// pullData is what an event says of a pull request.
func pullData(p slipway.PullRequest) []byte {
	v := map[string]any{"pull": p.Number, "head": p.Head, "base": p.Base}
	if p.Codebase != "" {
		v["codebase"] = p.Codebase
	}
	return data(v)
}

// MergePull says that an open pull request was merged as a commit. One that is not open any more, or
// has another head than the one that was merged, is a Conflict.
func (s *Store) MergePull(ctx context.Context, codebase string, number int64, head, mergedAs, actor string) (slipway.PullRequest, error) {
	return s.endPull(ctx, codebase, number, head, slipway.PullMerged, mergedAs, actor)
}

// ClosePull closes an open pull request without merging it.
func (s *Store) ClosePull(ctx context.Context, codebase string, number int64, actor string) (slipway.PullRequest, error) {
	return s.endPull(ctx, codebase, number, "", slipway.PullClosed, "", actor)
}

func (s *Store) endPull(ctx context.Context, codebase string, number int64, head string, to slipway.PullState, mergedAs, actor string) (slipway.PullRequest, error) {
	var out slipway.PullRequest
	err := s.write(ctx, func(t *tx) error {
		p, err := pull(ctx, t, codebase, number)
		if err != nil {
			return err
		}
		if head != "" && p.Head != head && p.State == slipway.PullOpen {
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s has moved to %s meanwhile; look at it again", number, codebase, slipway.ShortHash(p.Head))
		}
		n, err := t.exec(`UPDATE pulls SET state = $1, merged_as = $2, updated_at = $3 WHERE project = $4 AND codebase = $5 AND number = $6 AND state = 'open'`,
			to, mergedAs, ms(t.now), p.Project, p.Codebase, number)
		if err != nil {
			return fmt.Errorf("end pull request #%d: %w", number, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s is %s already", number, codebase, p.State)
		}
		if out, err = pull(ctx, t, codebase, number); err != nil {
			return err
		}
		moves, err := t.pullMoves(out)
		if err != nil {
			return err
		}
		return t.pullEvent(out, moves, string(to), actor, "%s %s", pullTitle(out), to)
	})
	return out, err
}

func pull(ctx context.Context, q querier, codebase string, number int64) (slipway.PullRequest, error) {
	project, name := slipway.SplitCodebase(codebase)
	p, ok, err := one(ctx, q, scanPull, `SELECT `+pullColumns+` FROM pulls WHERE project = $1 AND codebase = $2 AND number = $3`, project, name, number)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "pull request #%d of %s does not exist", number, codebase)
	}
	return p, err
}

// Pull returns the pull request that has a number in a codebase, given by its key.
func (s *Store) Pull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	return pull(ctx, s.reader, codebase, number)
}

// PullsOf returns the pull requests that have a number in a project, by codebase, the main one first.
func (s *Store) PullsOf(ctx context.Context, project string, number int64) ([]slipway.PullRequest, error) {
	return list(ctx, s.reader, scanPull, `SELECT `+pullColumns+` FROM pulls WHERE project = $1 AND number = $2 ORDER BY codebase`, project, number)
}

// Pulls returns the pull requests of a project in a state, the newest 200 of each codebase, highest number
// first; the empty state is any.
func (s *Store) Pulls(ctx context.Context, project string, state slipway.PullState) ([]slipway.PullRequest, error) {
	return list(ctx, s.reader, scanPull, `SELECT `+pullColumns+` FROM (SELECT *, row_number() OVER (PARTITION BY codebase ORDER BY number DESC) AS place FROM pulls
		WHERE project = $1 AND ($2 = '' OR state = $3)) WHERE place <= 200 ORDER BY number DESC, codebase`, project, state, state)
}

// ReviewPull records that a person approves the head of an open pull request; a new head starts from
// none. Approving twice, or a head that is not the pull request's any more, is a Conflict.
func (s *Store) ReviewPull(ctx context.Context, codebase string, number int64, head, reviewer string) (slipway.PullRequest, error) {
	var out slipway.PullRequest
	err := s.write(ctx, func(t *tx) error {
		p, err := pull(ctx, t, codebase, number)
		switch {
		case err != nil:
			return err
		case p.State != slipway.PullOpen:
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s is %s", number, codebase, p.State)
		case p.Head != head:
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s is at %s, not any more at %s: look at it again (slipway pulls show %d)", number, codebase, slipway.ShortHash(p.Head), slipway.ShortHash(head), number)
		case slices.Contains(p.Reviewers, reviewer):
			return slipway.Errorf(slipway.Conflict, "%s has approved pull request #%d already", reviewer, number)
		}
		if _, err := t.exec(`UPDATE pulls SET reviewers = $1, updated_at = $2 WHERE project = $3 AND codebase = $4 AND number = $5 AND state = 'open' AND head = $6`,
			strings.Join(append(p.Reviewers, reviewer), " "), ms(t.now), p.Project, p.Codebase, number, head); err != nil {
			return fmt.Errorf("review pull request #%d: %w", number, err)
		}
		if out, err = pull(ctx, t, codebase, number); err != nil {
			return err
		}
		return t.event(fmt.Sprintf("pull/%s/%d/%s/approved/%s", codebase, number, head, reviewer), slipway.Event{
			Kind: "pull.approved", Project: p.Project, Actor: reviewer, Message: fmt.Sprintf("%s approved at %s", pullTitle(p), slipway.ShortHash(head)), Data: pullData(p),
		})
	})
	return out, err
}
