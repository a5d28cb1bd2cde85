// Package gitea speaks with Gitea and Forgejo: it verifies and reads what their webhooks send, sets
// commit statuses, keeps one comment on a pull request, and asks for pull requests, branches and rights.
// It decides nothing, fetches no code and reads no list of changed files.
package gitea

import (
	"net/http"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

const signatureHeader = "X-Gitea-Signature"

// Receive verifies a request of a webhook by its HMAC-SHA256 and reads it. Nothing is parsed before the
// signature is right. The caller bounds the body.
func Receive(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error) {
	if !rest.Signed(secret, body, header(h, "Signature")) {
		return slipway.Delivery{}, rest.Unsigned(slipway.Gitea, h, signatureHeader)
	}
	d := slipway.Delivery{Digest: slipway.BodyDigest(body), Name: slipway.CleanLine(header(h, "Event"), 60)}
	d.ID = slipway.CleanLine(header(h, "Delivery"), 100)
	if d.ID == "" {
		d.ID = d.Digest
	}
	var in payload
	if err := rest.Body(slipway.Gitea, h, body, &in.subject); err != nil {
		return d, err
	}
	if in.Repository == nil {
		return rest.Ignored(d, "it is about no repository"), nil
	}
	if err := rest.Same(c, rest.ID(in.Repository.ID), in.Repository.FullName); err != nil {
		return d, err
	}
	d.Actor = in.Sender.account()
	read := map[string]func(payload, slipway.Delivery) (slipway.Delivery, error){
		"push": payload.push, "delete": payload.deleted, "pull_request": payload.pull, "issue_comment": payload.comment,
	}[d.Name]
	if read == nil {
		return rest.Ignored(d, "nothing follows from this event"), nil
	}
	if err := rest.Body(slipway.Gitea, h, body, &in); err != nil {
		return d, err
	}
	return read(in, d)
}

// header takes Forgejo's own name for what Gitea sends, should the other be missing.
func header(h http.Header, name string) string {
	if v := h.Get("X-Gitea-" + name); v != "" {
		return v
	}
	return h.Get("X-Forgejo-" + name)
}

// subject is all that is read of an event of which nothing follows.
type subject struct {
	Repository *repository `json:"repository"`
	Sender     user        `json:"sender"`
}

type payload struct {
	subject
	Action  string `json:"action"`
	Ref     string `json:"ref"`
	RefType string `json:"ref_type"`
	Before  string `json:"before"`
	After   string `json:"after"`
	Pull    *pull  `json:"pull_request"`
	IsPull  bool   `json:"is_pull"`
	Issue   *struct {
		Number int64     `json:"number"`
		Pull   *struct{} `json:"pull_request"`
	} `json:"issue"`
	Comment *comment `json:"comment"`
	Changes struct {
		Ref         *struct{} `json:"ref"`
		AddedLabels []label   `json:"added_labels"`
	} `json:"changes"`
}

func (in payload) push(d slipway.Delivery) (slipway.Delivery, error) {
	return rest.Pushed(d, in.Ref, in.Before, in.After)
}

// deleted is the only word of a branch that was removed, and does not say where it was; of a tag there
// is a push too.
func (in payload) deleted(d slipway.Delivery) (slipway.Delivery, error) {
	ref := "refs/heads/" + in.Ref
	if in.RefType != "branch" {
		return rest.Ignored(d, "a push tells of removed tags"), nil
	}
	if err := slipway.CheckRef(ref); err != nil {
		return rest.Ignored(d, slipway.CleanLine(err.Error(), 300)), nil
	}
	d.Kind, d.Refs = slipway.DeliveryPush, []slipway.RefMove{{Ref: ref, New: slipway.ZeroHash}}
	return d, nil
}

func (in payload) pull(d slipway.Delivery) (slipway.Delivery, error) {
	if in.Pull == nil {
		return d, slipway.Errorf(slipway.Invalid, "webhook of gitea: a pull_request event without a pull request")
	}
	p, why, err := rest.Pull(in.Pull.noun())
	if err != nil || why != "" {
		return rest.Ignored(d, why), err
	}
	d.Kind, d.Pull = slipway.DeliveryPull, &p
	switch in.Action {
	case "opened", "reopened":
		d.Event = slipway.PullEventOpened
	case "synchronized":
		d.Event = slipway.PullEventUpdated
	case "edited":
		d.Event = slipway.PullEventEdited
		if in.Changes.Ref != nil {
			d.Event = slipway.PullEventUpdated
		}
	case "label_updated", "label_cleared":
		d.Event = in.labelled(&d.Label)
	case "closed":
		d.Event = slipway.PullEventClosed
		if p.State == slipway.PullMerged {
			d.Event = slipway.PullEventMerged
		}
	default:
		return rest.Ignored(d, "nothing follows from this change of a pull request"), nil
	}
	return d, nil
}

// labelled: Gitea up to 1.25 does not say which label came or went.
func (in payload) labelled(label *string) slipway.PullEvent {
	if added := in.Changes.AddedLabels; len(added) > 0 {
		*label = slipway.CleanLine(added[0].Name, 100)
	} else if in.Action == "label_cleared" || len(in.Pull.Labels) == 0 {
		return slipway.PullEventEdited
	}
	return slipway.PullEventLabelled
}

func (in payload) comment(d slipway.Delivery) (slipway.Delivery, error) {
	switch {
	case in.Issue == nil || in.Comment == nil:
		return d, slipway.Errorf(slipway.Invalid, "webhook of gitea: an issue_comment event without issue or comment")
	case !in.IsPull && in.Issue.Pull == nil:
		return rest.Ignored(d, "the comment is on an issue"), nil
	case in.Action != "created":
		return rest.Ignored(d, "only new comments are read"), nil
	case in.Comment.ID < 1 || in.Issue.Number < 1:
		return d, slipway.Errorf(slipway.Invalid, "webhook of gitea: a comment without a number")
	}
	d.Kind = slipway.DeliveryComment
	d.Comment = &slipway.ForgeComment{
		ID: rest.ID(in.Comment.ID), Pull: in.Issue.Number, Author: in.Comment.User.account(),
		Text: rest.CommentText(in.Comment.Body), Link: rest.Link(in.Comment.HTMLURL),
	}
	return d, nil
}

type user struct {
	ID      int64  `json:"id"`
	Login   string `json:"login"`
	HTMLURL string `json:"html_url"`
}

// account: Gitea's own accounts (Ghost, its Actions) have ids below 1.
func (u user) account() slipway.Account {
	a := rest.Account(rest.ID(u.ID), u.Login, u.HTMLURL)
	a.Bot = u.ID < 0
	return a
}

type repository struct {
	ID            int64  `json:"id"`
	FullName      string `json:"full_name"`
	DefaultBranch string `json:"default_branch"`
	CloneURL      string `json:"clone_url"`
	HTMLURL       string `json:"html_url"`
	Private       bool   `json:"private"`
}

type label struct {
	Name string `json:"name"`
}

type side struct {
	Label  string      `json:"label"`
	Ref    string      `json:"ref"`
	SHA    string      `json:"sha"`
	RepoID int64       `json:"repo_id"`
	Repo   *repository `json:"repo"` // null when it was deleted
}

type pull struct {
	Number    int64     `json:"number"`
	Title     string    `json:"title"`
	State     string    `json:"state"`
	Draft     bool      `json:"draft"`
	Merged    bool      `json:"merged"`
	MergedAs  string    `json:"merge_commit_sha"`
	HTMLURL   string    `json:"html_url"`
	User      user      `json:"user"`
	Labels    []label   `json:"labels"`
	Head      side      `json:"head"`
	Base      side      `json:"base"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (p pull) noun() slipway.ForgePull {
	out := slipway.ForgePull{
		Number: p.Number, Title: p.Title, Author: p.User.account(), State: slipway.PullOpen, Draft: p.Draft, Link: p.HTMLURL,
		Base: p.Base.Ref, BaseCommit: p.Base.SHA, Head: p.Head.SHA, Topic: p.Head.Ref,
		Fork: p.Head.Repo == nil || p.Head.RepoID != p.Base.RepoID || p.Base.RepoID == 0, FetchRef: "refs/pull/" + rest.ID(p.Number) + "/head",
		UpdatedAt: p.UpdatedAt, Repository: rest.ID(p.Base.RepoID),
	}
	if p.Head.Repo != nil {
		out.HeadRepository = p.Head.Repo.FullName
	}
	if p.pushedForReview() {
		out.Fork, out.HeadRepository, out.Topic = true, "", ""
	}
	for _, l := range p.Labels {
		out.Labels = append(out.Labels, l.Name)
	}
	switch {
	case p.Merged:
		out.State, out.MergedAs = slipway.PullMerged, p.MergedAs
	case p.State == "closed":
		out.State = slipway.PullClosed
	}
	return out
}

// pushedForReview reports whether the pull request was made by a push to refs/for/<branch>. Who may read
// the repository may do that: the head is no more trusted than a fork's, though Gitea says that it is in
// the repository itself. It has no label and no branch.
func (p pull) pushedForReview() bool {
	return p.Head.Label == "" || strings.HasPrefix(p.Head.Ref, "refs/")
}

type comment struct {
	ID      int64  `json:"id"`
	Body    string `json:"body"`
	HTMLURL string `json:"html_url"`
	User    user   `json:"user"`
}
