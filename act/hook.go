package act

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Receive takes a request of a codebase's webhook: it is verified, read, and kept before Receive returns; what
// follows comes later. The same delivery again is not kept twice. body must be bounded by the caller.
func (f *Forges) Receive(ctx context.Context, codebase string, h http.Header, body []byte) (d slipway.Delivery, fresh bool, err error) {
	if project, name := slipway.SplitCodebase(codebase); !slipway.ValidName(project) || name != "" && !slipway.ValidName(name) {
		return d, false, slipway.Errorf(slipway.NotFound, "there is no such project or codebase")
	}
	receiving := f.receivingOf(codebase)
	receiving.RLock()
	defer receiving.RUnlock()
	k, err := f.hooked(ctx, codebase)
	if err != nil {
		return d, false, err
	}
	if d, err = f.ForgeOptions.Receive(k.connection, k.secret, h, body); err != nil {
		return d, false, err
	}
	if fresh, err = f.Deliveries.ReceiveDelivery(ctx, codebase, d); err != nil {
		return d, false, err
	}
	if fresh {
		f.Wake(codebase)
	}
	return d, fresh, nil
}

// hooked is what a codebase's webhook is verified with, remembered until the codebase is connected anew.
func (f *Forges) hooked(ctx context.Context, codebase string) (hooked, error) {
	f.mu.Lock()
	k, ok := f.hooks[codebase]
	anew := f.anew[codebase]
	f.mu.Unlock()
	if ok {
		return k, nil
	}
	c, err := f.Connections.Connection(ctx, codebase)
	if err != nil {
		return k, err
	}
	k.connection = c
	if k.secret, err = f.Connections.Credential(ctx, c.HookSecret); err != nil {
		return k, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.anew[codebase] == anew {
		f.hooks[codebase] = k
	}
	return k, nil
}

// atOnce is how many deliveries of a codebase are worked off together.
const atOnce = 500

// Work works off the deliveries of a codebase that are due, and returns when the next one is, the zero
// time if none is. Pushes together need one fetch; of a pull request only its newest state is taken.
// What cannot be done now is tried again later.
func (f *Forges) Work(ctx context.Context, codebase string) (next time.Time, err error) {
	for {
		src, err := f.Source(ctx, codebase) // before what came for it is read
		if err == nil && src.Connection.Project == "" {
			err = slipway.Errorf(slipway.NotFound, "%s is not connected with a forge", codebase)
		}
		if err != nil {
			return next, err
		}
		due, next, err := f.Deliveries.DueDeliveries(ctx, codebase, atOnce)
		if err != nil || len(due) == 0 {
			return next, err
		}
		for _, b := range batches(due) {
			if err := f.batch(ctx, src, b); err != nil {
				return next, err
			}
		}
	}
}

// batch are deliveries that are worked off by doing one thing.
type batch struct {
	kind slipway.DeliveryKind
	pull int64
	all  []slipway.Received
}

func (b batch) ids() []int64 {
	var ids []int64
	for _, r := range b.all {
		ids = append(ids, r.ID)
	}
	return ids
}

// moved reports whether something is told of that makes a run.
func (b batch) moved() bool {
	return slices.ContainsFunc(b.all, func(r slipway.Received) bool {
		return r.Delivery.Event == slipway.PullEventOpened || r.Delivery.Event == slipway.PullEventUpdated
	})
}

// batches puts together what is done together, in the order in which it came; comments, which may need
// what came before, come last.
func batches(due []slipway.Received) []batch {
	var first, last []batch
	at := map[string]int{}
	for _, r := range due {
		d := r.Delivery
		b := batch{kind: d.Kind, all: []slipway.Received{r}}
		switch {
		case d.Kind == slipway.DeliveryComment && d.Comment != nil:
			last = append(last, b)
			continue
		case d.Kind == slipway.DeliveryPull && d.Pull != nil:
			b.pull = d.Pull.Number
		}
		key := fmt.Sprint(b.kind, b.pull)
		if i, ok := at[key]; ok {
			first[i].all = append(first[i].all, r)
			continue
		}
		at[key] = len(first)
		first = append(first, b)
	}
	return append(first, last...)
}

// batch does what a batch asks for. Its error is one of the store alone; trouble with the forge delays
// the batch.
func (f *Forges) batch(ctx context.Context, src Source, b batch) error {
	reason, err := f.do(ctx, src, b)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		return f.Deliveries.FinishDeliveries(ctx, b.ids(), reason)
	}
	why := slipway.CleanLine(err.Error(), 600)
	hopeless := b.kind == slipway.DeliveryComment && (slipway.ErrorCode(err) == slipway.Invalid || slipway.ErrorCode(err) == slipway.Conflict)
	over, left := b.split(func(r slipway.Received) bool { return hopeless || r.Attempts >= mostAttempts })
	if len(over.all) > 0 {
		f.log.WarnContext(ctx, "work off deliveries; given up", "codebase", src.key(), "kind", b.kind, "deliveries", len(over.all), "error", err)
		if err := f.Deliveries.FinishDeliveries(ctx, over.ids(), "given up: "+why); err != nil {
			return err
		}
	}
	if len(left.all) == 0 {
		return nil
	}
	f.log.WarnContext(ctx, "work off deliveries; tried again later", "codebase", src.key(), "kind", b.kind, "error", err)
	wait := min(time.Second<<min(left.all[len(left.all)-1].Attempts, 10), 5*time.Minute) // as the newest waits
	return f.Deliveries.DelayDeliveries(ctx, left.ids(), f.now().Add(max(wait, slipway.RetryAfter(err))), why)
}

// split takes out of a batch what is so.
func (b batch) split(so func(slipway.Received) bool) (out, left batch) {
	out, left = b, b
	out.all, left.all = nil, nil
	for _, r := range b.all {
		if so(r) {
			out.all = append(out.all, r)
		} else {
			left.all = append(left.all, r)
		}
	}
	return out, left
}

// mostAttempts is how often a delivery is tried, for about a day. What it told of, polling finds.
const mostAttempts = 300

// do does what a batch asks for and says what followed. A panic is an error of this batch: a server that died of it
// would die of it again, as soon as it is there again.
func (f *Forges) do(ctx context.Context, src Source, b batch) (followed string, err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.ErrorContext(ctx, "panic in a delivery", "codebase", src.key(), "kind", b.kind, "panic", p, "stack", string(debug.Stack()))
			err = slipway.Errorf(slipway.Internal, "panic: %v", p)
		}
	}()
	ctx, done := f.During(ctx, src)
	defer done()
	followed, err = f.follow(ctx, src, b)
	return followed, orAnew(ctx, err)
}

func (f *Forges) follow(ctx context.Context, src Source, b batch) (string, error) {
	c, newest := src.Connection, b.all[len(b.all)-1]
	if c.Credential == "" && b.kind == slipway.DeliveryComment {
		return "nothing follows: comments need a token for the forge's API", nil
	}
	switch b.kind {
	case slipway.DeliveryPush:
		return "fetched", f.pushed(ctx, c, b.all)
	case slipway.DeliveryPull:
		p, why, err := f.pullOf(ctx, src, b)
		if err != nil || why != "" {
			return why, err
		}
		actor := f.actor(ctx, c, newest.Delivery.Actor)
		if err := f.sync(ctx, src, p, actor); err != nil || !b.moved() {
			return "taken over", err
		}
		return "taken over", f.ensureRun(ctx, src, b.pull, actor)
	case slipway.DeliveryComment:
		return f.comment(ctx, src, newest)
	}
	return first(newest.Delivery.Reason, "nothing follows"), nil
}

// pullOf is the pull request of a batch as the forge's API has it now or, without a token for that, as the
// deliveries and git have it; the text says why nothing follows.
func (f *Forges) pullOf(ctx context.Context, src Source, b batch) (slipway.ForgePull, string, error) {
	c := src.Connection
	if c.Credential == "" {
		return f.pullByGit(ctx, src, b)
	}
	client, err := f.open(ctx, c)
	if err != nil {
		return slipway.ForgePull{}, "", err
	}
	p, err := client.Pull(ctx, b.pull)
	f.problem(ctx, c.Key(), "read", err)
	if slipway.ErrorCode(err) == slipway.NotFound {
		err = fmt.Errorf("pull request %d: %w", b.pull, err)
	}
	return p, "", err
}

// pushed fetches what deliveries tell of. What polling has found before them gets its name.
func (f *Forges) pushed(ctx context.Context, c slipway.Connection, all []slipway.Received) error {
	actors := f.actors(ctx, c, all)
	if err := f.Poll(ctx, c, actors); err != nil {
		return err
	}
	for move, actor := range actors {
		ref, commit, _ := strings.Cut(move, " ")
		if actor == mirrorActor || commit == slipway.ZeroHash {
			continue
		}
		if err := f.Pulls.NameActor(ctx, c.Key(), ref, commit, mirrorActor, actor); err != nil {
			return err
		}
	}
	return nil
}

// Poll fetches branches and tags, whether a webhook told of them or not.
func (f *Forges) Poll(ctx context.Context, c slipway.Connection, actors map[string]string) error {
	err := f.Mirror(ctx, c.Key(), actors)
	if context.Cause(ctx) == nil {
		f.problem(ctx, c.Key(), "fetch", err)
	}
	return err
}

// problem keeps what the forge refuses, for `slipway project show`. Trouble of its API that may pass is
// not a refusal.
func (f *Forges) problem(ctx context.Context, codebase, area string, err error) {
	text := ""
	switch code := slipway.ErrorCode(err); {
	case err == nil:
	case errors.Is(err, ErrConnectedAnew): // of what is not connected any more
		return
	case code == slipway.Unavailable && area != "fetch", code == slipway.Internal, errors.Is(err, context.Canceled):
		return
	default:
		text = slipway.CleanLine(err.Error(), 600)
	}
	if err := f.Problem(ctx, codebase, area, text); err != nil {
		f.log.ErrorContext(ctx, "keep what the forge refuses", "codebase", codebase, "error", err)
	}
}

func (f *Forges) open(ctx context.Context, c slipway.Connection) (Forge, error) {
	token, err := f.Connections.Credential(ctx, c.Credential)
	if err != nil {
		return nil, err
	}
	return f.Open(c, token)
}

// actors says who moved which ref to which commit, as far as the deliveries tell.
func (f *Forges) actors(ctx context.Context, c slipway.Connection, all []slipway.Received) map[string]string {
	out := map[string]string{}
	for _, r := range all {
		for _, m := range r.Delivery.Refs {
			out[m.Ref+" "+m.New] = f.actor(ctx, c, r.Delivery.Actor)
		}
	}
	return out
}

// actor is who an account of a forge is: the user it is linked with, else the account's name and its
// forge, which no user is called.
func (f *Forges) actor(ctx context.Context, c slipway.Connection, a slipway.Account) string {
	if a.Name == "" {
		return mirrorActor
	}
	u, err := f.Commands.UserByAccount(ctx, c.API, a)
	if err == nil && u.Name != "" {
		return u.Name
	}
	return strings.ReplaceAll(slipway.CleanLine(a.Name, 60), " ", "-") + "@" + string(c.Forge)
}
