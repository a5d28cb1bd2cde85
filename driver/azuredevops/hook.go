// Package azuredevops speaks with Azure DevOps Services and Server about repositories (Azure Repos): it
// verifies and reads what service hooks send, sets statuses of commits and pull requests, keeps one
// comment on a pull request, and asks for pull requests, branches and rights. It decides nothing, fetches
// no code and reads no list of changed files.
package azuredevops

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// User is the name under which service hooks send the secret, as the password of HTTP's basic
// authentication: Azure DevOps does not sign.
const User = "slipway"

// Receive verifies a request of a service hook by its password, compared in constant time, and reads it.
// Nothing is parsed before the password is right. The caller bounds the body.
func Receive(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error) {
	r := http.Request{Header: h}
	name, password, _ := r.BasicAuth()
	if !rest.SameSecret(secret, password) || !rest.SameSecret(User, name) {
		return slipway.Delivery{}, rest.Unsigned(slipway.AzureDevOps, h, "Authorization")
	}
	d := slipway.Delivery{Digest: slipway.BodyDigest(body)}
	d.ID = d.Digest
	var in payload
	if err := rest.Body(slipway.AzureDevOps, h, body, &in.subject); err != nil {
		return d, err
	}
	if id := slipway.CleanLine(in.ID, 100); id != "" {
		d.ID = id
	}
	d.Name = slipway.CleanLine(in.EventType, 60)
	if in.SubscriptionID == noSubscription {
		d.Kind = slipway.DeliveryPing // the button "Test" sends Microsoft's sample, of another repository
		return d, nil
	}
	read := map[string]func(payload, slipway.Connection, slipway.Delivery) (slipway.Delivery, error){
		"git.push": payload.push, "git.pullrequest.created": payload.pull, "git.pullrequest.updated": payload.pull, "git.pullrequest.merged": payload.pull,
		"ms.vss-code.git-pullrequest-comment-event": payload.comment,
	}[in.EventType]
	if read == nil {
		return rest.Ignored(d, "nothing follows from this event"), nil
	}
	if err := rest.Body(slipway.AzureDevOps, h, body, &in); err != nil {
		return d, err
	}
	repo := in.Resource.Repository
	if in.Resource.Pull != nil {
		repo = in.Resource.Pull.Repository
	}
	if repo == nil {
		return rest.Ignored(d, "it is about no repository"), nil
	}
	if err := rest.Same(c, repo.ID, repo.fullName(c)); err != nil {
		return d, err
	}
	return read(in, c, d)
}

const noSubscription = "00000000-0000-0000-0000-000000000000"

// subject is all that is read of an event of which nothing follows: other kinds give other things the same
// names, as a check-in its comment.
type subject struct {
	SubscriptionID string `json:"subscriptionId"`
	ID             string `json:"id"`
	EventType      string `json:"eventType"`
}

type payload struct {
	subject
	Resource struct {
		pull
		RefUpdates []struct {
			Name string `json:"name"`
			Old  string `json:"oldObjectId"`
			New  string `json:"newObjectId"`
		} `json:"refUpdates"`
		PushedBy identity `json:"pushedBy"`
		Comment  *struct {
			comment
			Published string `json:"publishedDate"`
			Edited    string `json:"lastContentUpdatedDate"`
			Links     struct {
				Self struct {
					Href string `json:"href"`
				} `json:"self"`
			} `json:"_links"`
		} `json:"comment"`
		Pull *pull `json:"pullRequest"`
	} `json:"resource"`
}

func (in payload) push(_ slipway.Connection, d slipway.Delivery) (slipway.Delivery, error) {
	d.Actor = in.Resource.PushedBy.account()
	reason := "it moves no ref"
	for _, u := range in.Resource.RefUpdates {
		m, why, err := rest.Move(u.Name, u.Old, u.New)
		if err != nil {
			return d, err
		}
		if why != "" {
			reason = why
			continue
		}
		d.Refs = append(d.Refs, m)
	}
	if len(d.Refs) == 0 {
		return rest.Ignored(d, reason), nil
	}
	d.Kind = slipway.DeliveryPush
	return d, nil
}

func (in payload) pull(c slipway.Connection, d slipway.Delivery) (slipway.Delivery, error) {
	p, why, err := rest.Pull(in.Resource.noun(c))
	if err != nil || why != "" {
		return rest.Ignored(d, why), err
	}
	d.Kind, d.Pull = slipway.DeliveryPull, &p
	switch {
	case p.State == slipway.PullMerged:
		d.Event, d.Actor = slipway.PullEventMerged, in.Resource.ClosedBy.account()
	case p.State == slipway.PullClosed:
		d.Event, d.Actor = slipway.PullEventClosed, in.Resource.ClosedBy.account()
	case in.EventType == "git.pullrequest.created":
		d.Event, d.Actor = slipway.PullEventOpened, p.Author
	default:
		d.Event = slipway.PullEventUpdated
	}
	return d, nil
}

var ofThread = regexp.MustCompile(`/threads/(\d{1,18})/comments/(\d{1,18})$`)

func (in payload) comment(c slipway.Connection, d slipway.Delivery) (slipway.Delivery, error) {
	x, p := in.Resource.Comment, in.Resource.Pull
	if x == nil || p == nil || p.Number < 1 || x.ID < 1 {
		return d, slipway.Errorf(slipway.Invalid, "webhook of azure-devops: a comment without a number or a pull request")
	}
	d.Actor = x.Author.account()
	if x.IsDeleted || x.Edited != "" && x.Edited != x.Published {
		return rest.Ignored(d, "only new comments are read"), nil
	}
	if x.Type != "text" && x.Type != "" {
		return rest.Ignored(d, "the comment is Azure DevOps' own"), nil
	}
	id := slipway.CleanLine(rest.ID(p.Number)+"@"+x.Published+"/"+rest.ID(x.ID), 100)
	if m := ofThread.FindStringSubmatch(x.Links.Self.Href); m != nil {
		id = rest.ID(p.Number) + "/" + m[1] + "/" + m[2]
	}
	d.Kind = slipway.DeliveryComment
	d.Comment = &slipway.ForgeComment{ID: id, Pull: p.Number, Author: d.Actor, Text: rest.CommentText(x.Content), Link: page(c, p.Number)}
	return d, nil
}

type identity struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	UniqueName  string `json:"uniqueName"`
}

func (i identity) account() slipway.Account {
	name := i.UniqueName
	if name == "" {
		name = i.DisplayName
	}
	return rest.Account(i.ID, name, "")
}

type repository struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DefaultBranch string `json:"defaultBranch"`
	RemoteURL     string `json:"remoteUrl"`
	WebURL        string `json:"webUrl"`
	Project       struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Visibility string `json:"visibility"`
	} `json:"project"`
}

// fullName is organization/project/repository. The organization is in the repository's address only:
// the first part of the path, or of the host name for older ones.
func (r repository) fullName(c slipway.Connection) string {
	organization, _, _ := strings.Cut(c.Repository, "/")
	if u, err := url.Parse(r.RemoteURL); err == nil && u.Host != "" {
		if sub, ok := strings.CutSuffix(strings.ToLower(u.Hostname()), ".visualstudio.com"); ok {
			organization = sub
		} else if base, err := url.Parse(c.API); err == nil {
			path := strings.TrimPrefix(u.Path, base.Path)
			organization, _, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
		}
	}
	return organization + "/" + r.Project.Name + "/" + r.Name
}

type commit struct {
	ID string `json:"commitId"`
}

type pull struct {
	Repository *repository `json:"repository"`
	Number     int64       `json:"pullRequestId"`
	Status     string      `json:"status"`
	Title      string      `json:"title"`
	Draft      bool        `json:"isDraft"`
	CreatedBy  identity    `json:"createdBy"`
	ClosedBy   identity    `json:"closedBy"`
	Source     string      `json:"sourceRefName"`
	Target     string      `json:"targetRefName"`
	Head       commit      `json:"lastMergeSourceCommit"`
	Base       commit      `json:"lastMergeTargetCommit"`
	Merged     commit      `json:"lastMergeCommit"`
	ForkSource *struct {
		Repository repository `json:"repository"`
	} `json:"forkSource"`
	Labels []struct {
		Name string `json:"name"`
	} `json:"labels"`
}

func (p pull) noun(c slipway.Connection) slipway.ForgePull {
	out := slipway.ForgePull{
		Number: p.Number, Title: p.Title, Author: p.CreatedBy.account(), State: slipway.PullOpen, Draft: p.Draft, Link: page(c, p.Number),
		Base: strings.TrimPrefix(p.Target, "refs/heads/"), BaseCommit: p.Base.ID, Head: p.Head.ID, Topic: strings.TrimPrefix(p.Source, "refs/heads/"),
		HeadRepository: c.Repository, FetchRef: p.Source,
	}
	if p.Repository != nil {
		out.Repository = p.Repository.ID
	}
	if p.ForkSource != nil {
		organization, _, _ := strings.Cut(c.Repository, "/")
		fork := p.ForkSource.Repository
		out.Fork, out.HeadRepository = true, organization+"/"+fork.Project.Name+"/"+fork.Name
	}
	if out.Fork || slipway.CheckRef(p.Source) != nil || !strings.HasPrefix(p.Source, "refs/heads/") {
		out.FetchRef = "refs/pull/" + rest.ID(p.Number) + "/merge"
	}
	for _, l := range p.Labels {
		out.Labels = append(out.Labels, l.Name)
	}
	switch p.Status {
	case "completed":
		out.State, out.MergedAs = slipway.PullMerged, p.Merged.ID
	case "abandoned":
		out.State = slipway.PullClosed
	}
	return out
}

// page is where people see a pull request.
func page(c slipway.Connection, number int64) string {
	parts := strings.Split(c.Repository, "/")
	if len(parts) != 3 {
		return ""
	}
	u := c.API
	for _, p := range []string{parts[0], parts[1], "_git", parts[2], "pullrequest", rest.ID(number)} {
		u += "/" + url.PathEscape(p)
	}
	return u
}

type comment struct {
	ID        int64    `json:"id"`
	Content   string   `json:"content"`
	Author    identity `json:"author"`
	Type      string   `json:"commentType"`
	IsDeleted bool     `json:"isDeleted"`
}
