// Package github speaks with GitHub and GitHub Enterprise Server: it verifies and reads what their
// webhooks send, sets commit statuses, keeps one comment on a pull request, and asks for pull requests,
// branches and rights. It decides nothing, fetches no code and reads no list of changed files.
package github

import (
	"net/http"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

const signatureHeader = "X-Hub-Signature-256"

// Receive verifies a request of a webhook by its HMAC-SHA256 and reads it. Nothing is parsed before the
// signature is right. The older SHA-1 signature is not taken. The caller bounds the body.
func Receive(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error) {
	signature, ok := strings.CutPrefix(h.Get(signatureHeader), "sha256=")
	if !ok || !rest.Signed(secret, body, signature) {
		return slipway.Delivery{}, rest.Unsigned(slipway.GitHub, h, signatureHeader)
	}
	d := slipway.Delivery{Digest: slipway.BodyDigest(body), Name: slipway.CleanLine(h.Get("X-GitHub-Event"), 60)}
	d.ID = slipway.CleanLine(h.Get("X-GitHub-Delivery"), 100)
	if d.ID == "" {
		d.ID = d.Digest
	}
	var in payload
	if err := rest.Body(slipway.GitHub, h, body, &in.subject); err != nil {
		return d, err
	}
	if in.Repository == nil {
		return rest.Ignored(d, "it is about no repository"), nil
	}
	if err := rest.Same(c, rest.ID(in.Repository.ID), in.Repository.FullName); err != nil {
		return d, err
	}
	d.Actor = in.Sender.account()
	if d.Name == "ping" {
		d.Kind = slipway.DeliveryPing
		return d, nil
	}
	read := map[string]func(payload, slipway.Delivery) (slipway.Delivery, error){
		"push": payload.push, "pull_request": payload.pull, "issue_comment": payload.comment,
	}[d.Name]
	if read == nil {
		return rest.Ignored(d, "nothing follows from this event"), nil
	}
	if err := rest.Body(slipway.GitHub, h, body, &in); err != nil {
		return d, err
	}
	return read(in, d)
}

// subject is all that is read of an event of which nothing follows.
type subject struct {
	Repository *repository `json:"repository"`
	Sender     user        `json:"sender"`
}

type payload struct {
	subject
	Action string `json:"action"`
	Ref    string `json:"ref"`
	Before string `json:"before"`
	After  string `json:"after"`
	Pull   *pull  `json:"pull_request"`
	Label  *label `json:"label"`
	Issue  *struct {
		Number int64 `json:"number"`
		Pull   *struct {
			HTMLURL string `json:"html_url"`
		} `json:"pull_request"`
	} `json:"issue"`
	Comment *comment `json:"comment"`
	Changes struct {
		Base *struct{} `json:"base"`
	} `json:"changes"`
}

func (in payload) push(d slipway.Delivery) (slipway.Delivery, error) {
	return rest.Pushed(d, in.Ref, in.Before, in.After)
}

func (in payload) pull(d slipway.Delivery) (slipway.Delivery, error) {
	if in.Pull == nil {
		return d, slipway.Errorf(slipway.Invalid, "webhook of github: a pull_request event without a pull request")
	}
	p, why, err := rest.Pull(in.Pull.noun(in.Repository.ID))
	if err != nil || why != "" {
		return rest.Ignored(d, why), err
	}
	d.Kind, d.Pull = slipway.DeliveryPull, &p
	switch in.Action {
	case "opened", "reopened":
		d.Event = slipway.PullEventOpened
	case "synchronize":
		d.Event = slipway.PullEventUpdated
	case "edited":
		d.Event = slipway.PullEventEdited
		if in.Changes.Base != nil {
			d.Event = slipway.PullEventUpdated
		}
	case "converted_to_draft", "ready_for_review", "unlabeled":
		d.Event = slipway.PullEventEdited
	case "labeled":
		if in.Label == nil {
			return rest.Ignored(d, "the label is gone"), nil
		}
		d.Event, d.Label = slipway.PullEventLabelled, slipway.CleanLine(in.Label.Name, 100)
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

func (in payload) comment(d slipway.Delivery) (slipway.Delivery, error) {
	switch {
	case in.Issue == nil || in.Comment == nil:
		return d, slipway.Errorf(slipway.Invalid, "webhook of github: an issue_comment event without issue or comment")
	case in.Issue.Pull == nil:
		return rest.Ignored(d, "the comment is on an issue"), nil
	case in.Action != "created":
		return rest.Ignored(d, "only new comments are read"), nil
	case in.Comment.ID < 1 || in.Issue.Number < 1:
		return d, slipway.Errorf(slipway.Invalid, "webhook of github: a comment without a number")
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
	Type    string `json:"type"`
	HTMLURL string `json:"html_url"`
}

func (u user) account() slipway.Account {
	a := rest.Account(rest.ID(u.ID), u.Login, u.HTMLURL)
	a.Bot = u.Type == "Bot"
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
	Ref  string      `json:"ref"`
	SHA  string      `json:"sha"`
	Repo *repository `json:"repo"` // null when it was deleted
}

type pull struct {
	Number    int64     `json:"number"`
	Title     string    `json:"title"`
	State     string    `json:"state"`
	Draft     bool      `json:"draft"`
	Merged    bool      `json:"merged"`
	MergedAt  string    `json:"merged_at"`
	MergedAs  string    `json:"merge_commit_sha"` // a test merge until it is merged
	HTMLURL   string    `json:"html_url"`
	User      user      `json:"user"`
	Labels    []label   `json:"labels"`
	Head      side      `json:"head"`
	Base      side      `json:"base"`
	UpdatedAt time.Time `json:"updated_at"`
}

// noun is what rest.Pull checks; base is the repository that it must go to.
func (p pull) noun(base int64) slipway.ForgePull {
	out := slipway.ForgePull{
		Number: p.Number, Title: p.Title, Author: p.User.account(), State: slipway.PullOpen, Draft: p.Draft, Link: p.HTMLURL,
		Base: p.Base.Ref, BaseCommit: p.Base.SHA, Head: p.Head.SHA, Topic: p.Head.Ref, Fork: true,
		FetchRef: "refs/pull/" + rest.ID(p.Number) + "/head", UpdatedAt: p.UpdatedAt,
	}
	if p.Base.Repo != nil {
		out.Repository = rest.ID(p.Base.Repo.ID)
	}
	if p.Head.Repo != nil {
		out.HeadRepository, out.Fork = p.Head.Repo.FullName, p.Head.Repo.ID != base || base == 0
	}
	for _, l := range p.Labels {
		out.Labels = append(out.Labels, l.Name)
	}
	if p.State == "closed" {
		out.State = slipway.PullClosed
		if p.Merged || p.MergedAt != "" {
			out.State, out.MergedAs = slipway.PullMerged, p.MergedAs
		}
	}
	return out
}

type comment struct {
	ID      int64  `json:"id"`
	Body    string `json:"body"`
	HTMLURL string `json:"html_url"`
	User    user   `json:"user"`
}
