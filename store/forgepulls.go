package store

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

// SaveForgePull keeps a pull request of a codebase as its forge has it, under the forge's number: a new one, a new
// head, base or title, merged, closed or opened again. A new head starts from no reviewers. Saying the
// same again changes nothing.
func (s *Store) SaveForgePull(ctx context.Context, p slipway.PullRequest) (slipway.PullRequest, error) {
	p.Forge = true
	var out slipway.PullRequest
	err := s.write(ctx, func(t *tx) error {
		old, had, err := one(ctx, t, scanPull, `SELECT `+pullColumns+` FROM pulls WHERE project = $1 AND codebase = $2 AND number = $3`, p.Project, p.Codebase, p.Number)
		if err != nil {
			return err
		}
		if had && !old.Forge {
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s was opened here, before it was connected", p.Number, slipway.CodebaseKey(p.Project, p.Codebase))
		}
		if had && samePull(old, p) {
			out = old
			return nil
		}
		if out, err = t.saveForgePull(p); err != nil {
			return fmt.Errorf("save pull request #%d: %w", p.Number, err)
		}
		verb, message := pullVerb(old, had, out)
		moves, err := t.pullMoves(p)
		if err != nil {
			return err
		}
		return t.pullEvent(out, moves, verb, out.Author, "%s", message)
	})
	return out, err
}

func samePull(a, b slipway.PullRequest) bool {
	b.Reviewers, b.CreatedAt, b.UpdatedAt = a.Reviewers, time.Time{}, time.Time{}
	a.CreatedAt, a.UpdatedAt = time.Time{}, time.Time{}
	return a.Title == b.Title && a.Base == b.Base && a.Topic == b.Topic && a.Head == b.Head && a.State == b.State && a.MergedAs == b.MergedAs &&
		a.Fork == b.Fork && a.Held == b.Held && a.Link == b.Link
}

func (t *tx) saveForgePull(p slipway.PullRequest) (slipway.PullRequest, error) {
	out, _, err := one(t.ctx, t, scanPull, `INSERT INTO pulls (project, number, title, base, topic, head, author, state, merged_as, forge, link, fork, held, created_at, updated_at, codebase)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (project, codebase, number) DO UPDATE SET title = excluded.title, base = excluded.base, topic = excluded.topic,
			reviewers = CASE WHEN head = excluded.head THEN reviewers ELSE '' END, head = excluded.head, state = excluded.state,
			merged_as = excluded.merged_as, link = excluded.link, fork = excluded.fork, held = excluded.held,
			updated_at = excluded.updated_at, moves = moves + 1 RETURNING `+pullColumns,
		p.Project, p.Number, p.Title, p.Base, p.Topic, p.Head, p.Author, p.State, p.MergedAs, p.Link, bit(p.Fork), p.Held, ms(t.now), ms(t.now), p.Codebase)
	return out, err
}

func pullVerb(old slipway.PullRequest, had bool, p slipway.PullRequest) (verb, message string) {
	switch {
	case p.State != slipway.PullOpen && (!had || old.State == slipway.PullOpen):
		return string(p.State), fmt.Sprintf("%s %s", pullTitle(p), p.State)
	case !had || old.State != slipway.PullOpen:
		return "opened", fmt.Sprintf("%s opened: %s", pullTitle(p), p.Title)
	case p.Held != "" && old.Held != p.Held:
		return "held", fmt.Sprintf("%s is of a fork: %s waits for a member's approval to run", pullTitle(p), slipway.ShortHash(p.Head))
	case old.Head != p.Head:
		return "updated", fmt.Sprintf("%s is now at %s", pullTitle(p), slipway.ShortHash(p.Head))
	}
	return "edited", fmt.Sprintf("%s edited: %s", pullTitle(p), p.Title)
}

// RunHeld lets the held head of a fork run: a member has approved it. A pull request that holds another
// head, or none, is a Conflict, so that nobody approves what they have not seen.
func (s *Store) RunHeld(ctx context.Context, codebase string, number int64, head, actor string, run slipway.Run, plan slipway.Plan) (slipway.Run, error) {
	var out slipway.Run
	err := s.write(ctx, func(t *tx) error {
		project, name := slipway.SplitCodebase(codebase)
		n, err := t.exec(`UPDATE pulls SET held = '', moves = moves + 1, updated_at = $1 WHERE project = $2 AND codebase = $3 AND number = $4 AND state = 'open' AND held = $5 AND held <> ''`, ms(t.now), project, name, number, head)
		if err != nil {
			return fmt.Errorf("approve the run of pull request #%d: %w", number, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.Conflict, "pull request #%d of %s has no commit %s that waits for approval", number, codebase, slipway.ShortHash(head))
		}
		if out, err = t.createRun(run, plan); err != nil {
			return err
		}
		p, err := pull(ctx, t, codebase, number)
		if err != nil {
			return err
		}
		moves, err := t.pullMoves(p)
		if err != nil {
			return err
		}
		return t.pullEvent(p, moves, "admitted", actor, "%s may run: %s approved that, as run #%d", slipway.ShortHash(head), actor, out.ID)
	})
	return out, err
}

// NameActor says who moved a ref of a codebase to a commit, for the runs of it that polling made before the forge told:
// from is who they were put down to. Their waiting approvals get the name too.
func (s *Store) NameActor(ctx context.Context, codebase, ref, commit, from, actor string) error {
	project, name := slipway.SplitCodebase(codebase)
	runs, err := list(ctx, s.reader, scanInt, `SELECT id FROM runs WHERE project = $1 AND codebase = $2 AND ref = $3 AND commit_hash = $4 AND actor = $5`, project, name, ref, commit, from)
	if err != nil || len(runs) == 0 {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		for _, id := range runs {
			n, err := t.exec(`UPDATE runs SET actor = $1 WHERE id = $2 AND actor = $3`, actor, id, from)
			if err != nil {
				return fmt.Errorf("name the actor of run #%d: %w", id, err)
			}
			if n == 0 {
				continue
			}
			if _, err := t.exec(`UPDATE approvals SET requester = $1 WHERE run_id = $2 AND state = 'waiting' AND requester = $3`, actor, id, from); err != nil {
				return fmt.Errorf("name the requester of run #%d: %w", id, err)
			}
			if err := t.audit(slipway.Event{Kind: "run.named", Project: project, RunID: id, Actor: actor, Message: fmt.Sprintf("run #%d was started by %s", id, actor)}); err != nil {
				return err
			}
		}
		return nil
	})
}
