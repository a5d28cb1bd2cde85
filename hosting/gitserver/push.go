package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	maxCommands = 2000     // of one push
	maxLine     = 16 << 10 // bytes of one line from a hook
	maxOptions  = 100
)

var hashExpr = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

var errBrokenOff = errors.New("the push was broken off")

// push is a push while it is going on.
type push struct {
	s     *Server
	q     request
	pipes *pipes
	ctx   context.Context //nolint:containedctx // cancelled when git has ended or the server stops

	mu       sync.Mutex
	release  func() // of the repository's lock, once it is held
	options  []string
	pending  []Command // Receive or Propose let them pass, and nobody knows yet whether they moved
	messages []string  // of proposals, shown when they moved
}

// servePush runs git for a push and answers its hooks. A push that got as far as a hook goes on when
// its client hangs up.
func (s *Server) servePush(r *http.Request, q request, body *patientReader, out *patientWriter) (err error) {
	pipes, err := s.newPipes(q.dir)
	if err != nil {
		_, _ = io.Copy(io.Discard, body) // who still sends does not see the answer
		return fmt.Errorf("prepare a push: %w", err)
	}
	defer func() { err = errors.Join(err, pipes.remove()) }()
	base := context.WithoutCancel(r.Context())
	calls, endCalls := context.WithCancelCause(base)
	defer endCalls(nil)
	run, endRun := context.WithCancelCause(base)
	defer endRun(nil)
	defer context.AfterFunc(s.ctx, func() {
		endCalls(context.Cause(s.ctx))
		time.AfterFunc(grace, func() { endRun(context.Cause(s.ctx)) })
	})()
	p := &push{s: s, q: q, pipes: pipes, ctx: calls}
	var hooks sync.WaitGroup
	for _, hook := range []func(){p.pre, p.proc, p.post} {
		hooks.Go(hook)
	}
	git := process{
		dir: q.dir, stdin: body, out: out, started: pipes.started, files: pipes.inherited(),
		env: append(s.environment(r, q), "SLIPWAY_PUSH="+pipes.dir),
	}
	err = git.run(run)
	endCalls(errBrokenOff)
	pipes.close()
	hooks.Wait()
	p.settle(base)
	return err
}

// settle tells what became of commands of which no hook told.
func (p *push) settle(ctx context.Context) {
	if p.release != nil {
		defer p.release()
	}
	if len(p.pending) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.s.CallTimeout)
	defer cancel()
	refs, err := p.s.Open(p.q.dir, nil).Refs(ctx, "refs/heads", "refs/tags", "refs/pull")
	if err != nil {
		p.s.Log.Error("read refs after a push; the next start compares again", "project", p.q.project, "error", err)
		return
	}
	var moved, refused []Command
	for _, c := range p.pending {
		now := refs[c.Ref]
		if now == "" {
			now = slipway.ZeroHash
		}
		if now == c.New {
			moved = append(moved, c)
		} else {
			refused = append(refused, c)
		}
	}
	if len(moved) > 0 {
		p.s.Pushes.Moved(ctx, p.batch(moved, nil))
	}
	if len(refused) > 0 {
		p.s.Pushes.Refused(ctx, p.batch(refused, nil))
	}
}

func (p *push) batch(commands []Command, env []string) Push {
	return Push{Project: p.q.project, Codebase: p.q.codebase, Actor: p.q.actor, Commands: commands, Options: p.given(), Dir: p.q.dir, Env: env}
}

// given is the push options, known once pre has answered.
func (p *push) given() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.options
}

// pre answers the pre-receive hook.
func (p *push) pre() {
	in := bufio.NewReaderSize(p.pipes.pre.in, maxLine)
	ask, err := readAsk(in, p.pipes.nonce)
	if errors.Is(err, errHook) {
		return
	}
	var messages []string
	if err == nil {
		messages, err = p.decide(ask)
	}
	verdict := "ok"
	if err != nil {
		verdict, messages = "no", append(messages, p.explain("push", err)...)
	}
	p.pipes.pre.answer(messages, verdict)
}

// explain is what who pushes sees of an error.
func (p *push) explain(what string, err error) []string {
	if p.s.ctx.Err() != nil {
		return []string{"Slipway is stopping; nothing was changed. Push again in a moment."}
	}
	if slipway.ErrorCode(err) == slipway.Internal {
		p.s.Log.Error("decide about a "+what, "project", p.q.project, "actor", p.q.actor, "error", err)
		return []string{"internal error; nothing was changed. The server's log says more."}
	}
	return strings.Split(err.Error(), "\n")
}

// decide locks the repository, checks the commands and asks Receive.
func (p *push) decide(a ask) ([]string, error) {
	release, err := p.s.lock(p.ctx, p.q.dir)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.release, p.options = release, a.options
	p.mu.Unlock()
	commands, err := checkCommands(a.commands)
	if err != nil || len(commands) == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.s.CallTimeout)
	defer cancel()
	env := []string{"GIT_OBJECT_DIRECTORY=" + a.objects, "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + a.alternates}
	if a.objects == "" { // nothing was sent, as for deletions
		env = nil
	}
	repo := p.s.Open(p.q.dir, env)
	if err := upToDate(ctx, repo, commands); err != nil {
		return nil, err
	}
	for i, c := range commands {
		if commands[i].Forced, err = forced(ctx, repo, c); err != nil {
			return nil, fmt.Errorf("compare %s: %w", c.Ref, err)
		}
	}
	messages, err := p.s.Pushes.Receive(ctx, p.batch(commands, env))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = append(p.pending, commands...)
	return messages, nil
}

// upToDate refuses commands whose ref is not where the client saw it: git would refuse them too, but
// only after Receive recorded them. It also catches a request that a client sends twice.
func upToDate(ctx context.Context, repo Repository, commands []Command) error {
	const few = 100
	names := []string{"refs/heads", "refs/tags"}
	if len(commands) <= few {
		names = nil
		for _, c := range commands {
			names = append(names, c.Ref)
		}
	}
	refs, err := repo.Refs(ctx, names...)
	if err != nil {
		return fmt.Errorf("read refs: %w", err)
	}
	var problems []string
	for _, c := range commands {
		now := refs[c.Ref]
		if now == "" {
			now = slipway.ZeroHash
		}
		if now != c.Old {
			problems = append(problems, fmt.Sprintf("%s: was moved by someone else in the meantime; fetch, and push again", c.Ref))
		}
	}
	if len(problems) > 0 {
		return slipway.Errorf(slipway.Conflict, "%s", strings.Join(problems, "\n"))
	}
	return nil
}

func forced(ctx context.Context, repo Repository, c Command) (bool, error) {
	if c.Created() || c.Deleted() {
		return false, nil
	}
	if !strings.HasPrefix(c.Ref, "refs/heads/") {
		return true, nil
	}
	ok, err := repo.IsAncestor(ctx, c.Old, c.New)
	return !ok, err
}

// post answers the post-receive hook, which names the refs that moved.
func (p *push) post() {
	in := bufio.NewReaderSize(p.pipes.post.in, maxLine)
	lines, err := readUntil(in, "end "+p.pipes.nonce)
	if err != nil {
		return
	}
	moved := p.take(lines)
	p.mu.Lock()
	messages := p.messages
	p.mu.Unlock()
	if len(moved) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), p.s.CallTimeout)
		defer cancel()
		messages = append(messages, p.s.Pushes.Moved(ctx, p.batch(moved, nil))...)
	}
	p.pipes.post.answer(messages, "ok")
}

// take removes the commands in lines from those of which nothing is known and returns them.
func (p *push) take(lines []string) []Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	var moved, rest []Command
	known := map[string]bool{}
	for _, l := range lines {
		known[l] = true
	}
	for _, c := range p.pending {
		if known[c.Old+" "+c.New+" "+c.Ref] {
			moved = append(moved, c)
		} else {
			rest = append(rest, c)
		}
	}
	p.pending = rest
	return moved
}

// ask is what the pre-receive hook asks.
type ask struct {
	objects, alternates string
	commands            []Command
	options             []string
}

// errHook means that the hook is not there, or no longer.
var errHook = errors.New("read from hook")

// readAsk reads all the hook has to say, and only then judges it.
func readAsk(in *bufio.Reader, nonce string) (ask, error) {
	lines, err := readUntil(in, "options "+nonce)
	if err != nil && !errors.Is(err, errTooMany) {
		return ask{}, err
	}
	options, oerr := readUntil(in, "end "+nonce)
	if oerr != nil && !errors.Is(oerr, errTooMany) {
		return ask{}, oerr
	}
	if err = errors.Join(err, oerr); err != nil || len(options) > maxOptions {
		return ask{}, slipway.Errorf(slipway.Invalid, "this push is too large: at most %d refs and %d options at once", maxCommands, maxOptions)
	}
	if len(lines) < 2 {
		return ask{}, fmt.Errorf("hook said %d lines", len(lines))
	}
	a := ask{objects: strings.TrimPrefix(lines[0], "objects "), alternates: strings.TrimPrefix(lines[1], "alternates "), options: options}
	if a.objects != "" && !filepath.IsAbs(a.objects) {
		return ask{}, fmt.Errorf("hook named objects %q", a.objects)
	}
	for _, l := range lines[2:] {
		c, err := parseCommand(l)
		if err != nil {
			return ask{}, err
		}
		a.commands = append(a.commands, c)
	}
	return a, nil
}

var errTooMany = errors.New("too many lines")

// readUntil returns the lines before end. More than a push may have are read and not kept.
func readUntil(in *bufio.Reader, end string) ([]string, error) {
	var lines []string
	for count := 0; ; count++ {
		line, err := in.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errHook, err)
		}
		if tooLong {
			count = maxCommands + 2
			continue
		}
		text := strings.TrimSuffix(string(line), "\n")
		if text == end {
			if count > maxCommands+2 {
				return nil, errTooMany
			}
			return lines, nil
		}
		if count < maxCommands+2 {
			lines = append(lines, text)
		}
	}
}

func parseCommand(line string) (Command, error) {
	old, rest, _ := strings.Cut(line, " ")
	new, ref, ok := strings.Cut(rest, " ")
	if !ok || !hashExpr.MatchString(old) || !hashExpr.MatchString(new) {
		return Command{}, slipway.Errorf(slipway.Invalid, "%.200q is no command to move a ref", line)
	}
	return Command{Ref: ref, Old: old, New: new}, nil
}

// checkCommands returns the commands that move refs as they are, without the proposals. Every
// wrong one has a line in the error.
func checkCommands(all []Command) ([]Command, error) {
	var commands []Command
	var problems []string
	seen := map[string]bool{}
	for _, c := range all {
		if err := checkCommand(c, seen[c.Ref]); err != nil {
			problems = append(problems, err.Error())
		} else if !strings.HasPrefix(c.Ref, "refs/for/") {
			commands = append(commands, c)
		}
		seen[c.Ref] = true
	}
	if len(problems) > 0 {
		const most = 50
		if n := len(problems) - most; n > 0 {
			problems = append(problems[:most], fmt.Sprintf("and %d more", n))
		}
		return nil, slipway.Errorf(slipway.Invalid, "%s", strings.Join(problems, "\n"))
	}
	return commands, nil
}

func checkCommand(c Command, again bool) error {
	if err := slipway.CheckRef(c.Ref); err != nil {
		return err
	}
	switch {
	case again:
		return slipway.Errorf(slipway.Invalid, "%s: named twice in one push", c.Ref)
	case strings.HasPrefix(c.Ref, "refs/for/"):
		if c.Deleted() {
			return slipway.Errorf(slipway.Invalid, "%s: a proposal cannot be deleted by a push; close the pull request", c.Ref)
		}
		return nil
	case strings.HasPrefix(c.Ref, "refs/pull/"):
		return slipway.Errorf(slipway.Invalid, "%s: pull requests are opened and updated with git push origin HEAD:refs/for/<branch>", c.Ref)
	case !strings.HasPrefix(c.Ref, "refs/heads/") && !strings.HasPrefix(c.Ref, "refs/tags/"):
		return slipway.Errorf(slipway.Invalid, "%s: only branches (refs/heads/), tags (refs/tags/) and refs/for/<branch> can be pushed", c.Ref)
	case c.Created() && c.Deleted():
		return slipway.Errorf(slipway.Invalid, "%s: does not exist", c.Ref)
	}
	return nil
}
