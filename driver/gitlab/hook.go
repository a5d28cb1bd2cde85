// Package gitlab speaks with GitLab: it verifies and reads what its webhooks send, sets commit statuses,
// keeps one comment on a merge request, and asks for merge requests, branches and rights. What GitLab
// calls a merge request is a pull request here. It decides nothing, fetches no code and reads no list of
// changed files.
package gitlab

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

const tokenHeader = "X-Gitlab-Token"

// Receive verifies a request of a webhook by its secret token, or by the signature that newer ones make with
// SigningToken, both compared in constant time, and reads it. Nothing is parsed before one of them is right.
// The caller bounds the body.
func Receive(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error) {
	if !rest.SameSecret(secret, h.Get(tokenHeader)) && !signed(secret, h, body) {
		if h.Get(tokenHeader) == "" && h.Get(signatureHeader) != "" {
			return slipway.Delivery{}, rest.Unsigned(slipway.GitLab, h, signatureHeader)
		}
		return slipway.Delivery{}, rest.Unsigned(slipway.GitLab, h, tokenHeader)
	}
	d := slipway.Delivery{Name: slipway.CleanLine(h.Get("X-Gitlab-Event"), 60)}
	d.ID, d.Digest = identify(h, body)
	var about subject
	if err := rest.Body(slipway.GitLab, h, body, &about); err != nil {
		return d, err
	}
	if about.Project == nil {
		return rest.Ignored(d, "it is about no project"), nil
	}
	if err := rest.Same(c, rest.ID(about.Project.ID), about.Project.Path); err != nil {
		return d, err
	}
	read := map[string]func(payload, slipway.Delivery) (slipway.Delivery, error){
		"push": payload.push, "tag_push": payload.push, "merge_request": payload.pull, "note": payload.comment,
	}[about.Kind]
	if read == nil {
		return rest.Ignored(d, "nothing follows from this event"), nil
	}
	var in payload
	if err := rest.Body(slipway.GitLab, h, body, &in); err != nil {
		return d, err
	}
	d.Actor = in.actor()
	return read(in, d)
}

// subject is all that is read of an event of which nothing follows: other kinds give other things the same
// names, as a pipeline its source, and GitLab switches a webhook off whose events are refused.
type subject struct {
	Kind    string   `json:"object_kind"`
	Project *project `json:"project"`
}

// identify: the id is the key that GitLab keeps when it sends again. Older ones send only the id of an
// event, which events that follow from one another share: the body tells them apart. Nothing is signed,
// and the body of a push has no time: a branch that moves there, back and there again sends the same
// twice. So the digest is of the id too.
func identify(h http.Header, body []byte) (id, digest string) {
	digest = slipway.BodyDigest(body)
	id = slipway.CleanLine(h.Get("Webhook-Id"), 100) // the same, and signed
	if id == "" {
		id = slipway.CleanLine(h.Get("Idempotency-Key"), 100)
	}
	if id == "" {
		id = digest
		if event := slipway.CleanLine(h.Get("X-Gitlab-Event-UUID"), 60); event != "" {
			id = event + "/" + digest[:16]
		}
	}
	return id, slipway.BodyDigest([]byte(id + "\n" + digest))
}

type payload struct {
	Ref      string        `json:"ref"`
	Before   string        `json:"before"`
	After    string        `json:"after"`
	UserID   int64         `json:"user_id"` // of a push
	Username string        `json:"user_username"`
	User     user          `json:"user"`
	Object   attributes    `json:"object_attributes"`
	Merge    *attributes   `json:"merge_request"`
	Labels   []label       `json:"labels"`
	Changes  changedFields `json:"changes"`
}

type changedFields struct {
	Target *json.RawMessage `json:"target_branch"`
	Labels struct {
		Previous []label `json:"previous"`
		Current  []label `json:"current"`
	} `json:"labels"`
}

type project struct {
	ID   int64  `json:"id"`
	Path string `json:"path_with_namespace"`
}

type user struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	WebURL   string `json:"web_url"`
	Bot      bool   `json:"bot"`
}

func (u user) account() slipway.Account {
	a := rest.Account(rest.ID(u.ID), u.Username, u.WebURL)
	a.Bot = u.Bot
	return a
}

type label struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
}

// attributes are those of a merge request or, of a note, the lower ones.
type attributes struct {
	ID            int64    `json:"id"`
	IID           int64    `json:"iid"`
	Title         string   `json:"title"`
	State         string   `json:"state"`
	Draft         bool     `json:"draft"`
	Action        string   `json:"action"`
	OldRev        string   `json:"oldrev"`
	URL           string   `json:"url"`
	AuthorID      int64    `json:"author_id"`
	SourceBranch  string   `json:"source_branch"`
	TargetBranch  string   `json:"target_branch"`
	SourceProject int64    `json:"source_project_id"`
	TargetProject int64    `json:"target_project_id"`
	Source        *project `json:"source"`
	LastCommit    struct {
		ID string `json:"id"`
	} `json:"last_commit"`
	MergeCommit string  `json:"merge_commit_sha"`
	UpdatedAt   string  `json:"updated_at"`
	Labels      []label `json:"labels"`

	Note     string `json:"note"`
	Noteable string `json:"noteable_type"`
	System   bool   `json:"system"`
}

func (in payload) actor() slipway.Account {
	if in.UserID != 0 {
		return rest.Account(rest.ID(in.UserID), in.Username, "")
	}
	return in.User.account()
}

// author has a name only where who wrote it is who did this.
func (in payload) author(id int64) slipway.Account {
	if id == 0 || id == in.User.ID {
		return in.User.account()
	}
	return slipway.Account{ID: rest.ID(id)}
}

func (in payload) push(d slipway.Delivery) (slipway.Delivery, error) {
	return rest.Pushed(d, in.Ref, in.Before, in.After)
}

func (in payload) pull(d slipway.Delivery) (slipway.Delivery, error) {
	p, why, err := rest.Pull(in.noun())
	if err != nil || why != "" {
		return rest.Ignored(d, why), err
	}
	d.Kind, d.Pull = slipway.DeliveryPull, &p
	switch in.Object.Action {
	case "open", "reopen":
		d.Event = slipway.PullEventOpened
	case "close":
		d.Event = slipway.PullEventClosed
	case "merge":
		d.Event = slipway.PullEventMerged
	case "update":
		d.Event = slipway.PullEventEdited
		added := in.Changes.added()
		switch {
		case in.Object.OldRev != "" || in.Changes.Target != nil:
			d.Event = slipway.PullEventUpdated
		case added != "":
			d.Event, d.Label = slipway.PullEventLabelled, added
		}
	default:
		return rest.Ignored(d, "nothing follows from this change of a merge request"), nil
	}
	return d, nil
}

func (in payload) noun() slipway.ForgePull {
	o := in.Object
	p := slipway.ForgePull{
		Number: o.IID, Title: o.Title, Author: in.author(o.AuthorID), State: state(o.State), Draft: o.Draft, Link: o.URL,
		Base: o.TargetBranch, Head: o.LastCommit.ID, Topic: o.SourceBranch,
		Fork:     o.SourceProject != o.TargetProject || o.TargetProject == 0,
		FetchRef: "refs/merge-requests/" + rest.ID(o.IID) + "/head", UpdatedAt: when(o.UpdatedAt), Repository: rest.ID(o.TargetProject),
	}
	if o.Source != nil {
		p.HeadRepository = o.Source.Path
	}
	if p.State == slipway.PullMerged {
		p.MergedAs = o.MergeCommit
	}
	labels := in.Labels
	if len(labels) == 0 {
		labels = o.Labels
	}
	for _, l := range labels {
		p.Labels = append(p.Labels, l.Title)
	}
	return p
}

// added is a label that was not there before.
func (c changedFields) added() string {
	before := map[int64]bool{}
	for _, l := range c.Labels.Previous {
		before[l.ID] = true
	}
	for _, l := range c.Labels.Current {
		if !before[l.ID] {
			return slipway.CleanLine(l.Title, 100)
		}
	}
	return ""
}

func (in payload) comment(d slipway.Delivery) (slipway.Delivery, error) {
	o := in.Object
	switch {
	case o.Noteable != "MergeRequest":
		return rest.Ignored(d, "the comment is not on a merge request"), nil
	case o.System || (o.Action != "" && o.Action != "create"):
		return rest.Ignored(d, "only new comments are read"), nil
	case in.Merge == nil || in.Merge.IID < 1 || o.ID < 1:
		return d, slipway.Errorf(slipway.Invalid, "webhook of gitlab: a comment without a number or a merge request")
	}
	d.Kind = slipway.DeliveryComment
	d.Comment = &slipway.ForgeComment{ID: rest.ID(o.ID), Pull: in.Merge.IID, Author: in.author(o.AuthorID), Text: rest.CommentText(o.Note), Link: rest.Link(o.URL)}
	return d, nil
}

func state(s string) slipway.PullState {
	switch s {
	case "merged":
		return slipway.PullMerged
	case "closed":
		return slipway.PullClosed
	}
	return slipway.PullOpen // opened, and locked while it is merged
}

// when reads both forms of time that GitLab writes; zero for neither.
func when(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 MST"} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
