package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/slipway-cd/slipway"
)

const (
	maxTitle       = 200      // characters
	maxDescription = 16 << 10 // bytes
)

// proc answers the proc-receive hook: it speaks the protocol of githooks(5) about refs/for/.
func (p *push) proc() {
	in := bufio.NewReader(p.pipes.proc.in)
	commands, err := p.greet(in)
	if err != nil {
		if !errors.Is(err, io.EOF) && p.ctx.Err() == nil {
			p.s.Log.Error("speak with proc-receive", "project", p.q.project, "error", err)
		}
		p.pipes.proc.hangUp()
		return
	}
	out := bufio.NewWriter(p.pipes.proc.out)
	for _, c := range commands {
		p.report(out, c)
	}
	_ = writeFlush(out)
	_ = out.Flush()
	p.pipes.proc.hangUp()
}

// greet agrees on the version and reads the commands.
func (p *push) greet(in io.Reader) ([]Command, error) {
	hello, err := readPkts(in, 10)
	if err != nil {
		return nil, err
	}
	if len(hello) == 0 || !strings.HasPrefix(hello[0], "version=1") {
		return nil, fmt.Errorf("%w: proc-receive says %.60q", errPkt, hello)
	}
	out := p.pipes.proc.out
	if err := errors.Join(writePkt(out, "version=1\x00\n"), writeFlush(out)); err != nil {
		return nil, err
	}
	lines, err := readPkts(in, maxCommands)
	if err != nil {
		return nil, err
	}
	commands := make([]Command, 0, len(lines))
	for _, l := range lines {
		c, err := parseCommand(strings.TrimSuffix(l, "\n"))
		if err != nil {
			return nil, err
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// report answers one command.
func (p *push) report(out io.Writer, c Command) {
	moved, err := p.propose(c)
	if err != nil {
		reason := strings.Join(p.explain("proposal", err), "; ")
		_ = writePkt(out, "ng "+c.Ref+" "+printable(reason))
		return
	}
	_ = writePkt(out, "ok "+c.Ref)
	_ = writePkt(out, "option refname "+moved.Ref)
	_ = writePkt(out, "option old-oid "+moved.Old)
	_ = writePkt(out, "option new-oid "+moved.New)
	if moved.Forced {
		_ = writePkt(out, "option forced-update")
	}
}

// propose asks Propose and moves the pull request's ref.
func (p *push) propose(c Command) (Command, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.s.CallTimeout)
	defer cancel()
	repo := p.s.Open(p.q.dir, nil)
	proposal, err := p.proposal(ctx, repo, c)
	if err != nil {
		return Command{}, err
	}
	answer, err := p.s.Pushes.Propose(ctx, proposal)
	if err != nil {
		return Command{}, err
	}
	if !strings.HasPrefix(answer.Ref, "refs/pull/") {
		return Command{}, fmt.Errorf("proposal of %s: ref %q is not below refs/pull/", c.Ref, answer.Ref)
	}
	moved := Command{Ref: answer.Ref, Old: answer.Old, New: c.New}
	if moved.Old == "" {
		moved.Old = slipway.ZeroHash
	}
	p.mu.Lock()
	p.messages = append(p.messages, answer.Messages...)
	p.mu.Unlock()
	if moved.Old == moved.New {
		return moved, nil
	}
	p.mu.Lock()
	p.pending = append(p.pending, moved)
	p.mu.Unlock()
	if moved.Forced, err = forcedHead(ctx, repo, moved); err != nil {
		return Command{}, err
	}
	return moved, repo.UpdateRef(ctx, moved.Ref, moved.New, moved.Old)
}

func forcedHead(ctx context.Context, repo Repository, c Command) (bool, error) {
	if c.Created() {
		return false, nil
	}
	ok, err := repo.IsAncestor(ctx, c.Old, c.New)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return true, nil
	}
	return !ok, err
}

// proposal reads what a push to refs/for/ means.
func (p *push) proposal(ctx context.Context, repo Repository, c Command) (Proposal, error) {
	target := strings.TrimPrefix(c.Ref, "refs/for/")
	branches, err := repo.Refs(ctx, "refs/heads")
	if err != nil {
		return Proposal{}, err
	}
	base, topic, ok := splitTarget(target, branches)
	if !ok {
		return Proposal{}, slipway.Errorf(slipway.Invalid, "there is no branch %q to propose to: push to refs/for/<branch> or refs/for/<branch>/<topic>", target)
	}
	commit, err := repo.Resolve(ctx, c.New)
	if err != nil {
		return Proposal{}, err
	}
	if commit != c.New {
		return Proposal{}, slipway.Errorf(slipway.Invalid, "%s: a commit must be proposed, not a tag", slipway.ShortHash(c.New))
	}
	pr := Proposal{Project: p.q.project, Codebase: p.q.codebase, Actor: p.q.actor, Base: base, Topic: topic, Head: c.New, Options: p.given(), Dir: p.q.dir}
	for _, o := range pr.Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "topic":
			pr.Topic = value
		case "title":
			pr.Title = cut(printable(value), maxTitle)
		case "description":
			pr.Description = cut(strings.ToValidUTF8(value, ""), maxDescription)
		}
	}
	if pr.Topic != "" {
		if err := slipway.CheckRef("refs/for/" + pr.Topic); err != nil {
			return Proposal{}, slipway.Errorf(slipway.Invalid, "topic %.100q: use letters, digits, dashes and slashes", pr.Topic)
		}
	}
	return pr, nil
}

// splitTarget finds the existing branch that a target begins with; the rest is the topic. No two
// branches fit, since git keeps none below the name of another.
func splitTarget(target string, branches map[string]string) (base, topic string, ok bool) {
	for i := 0; i <= len(target); i++ {
		if i < len(target) && target[i] != '/' {
			continue
		}
		if _, known := branches["refs/heads/"+target[:i]]; known {
			return target[:i], strings.TrimPrefix(target[i:], "/"), true
		}
	}
	return "", "", false
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}
