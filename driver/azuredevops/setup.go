package azuredevops

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

const (
	gitNamespace = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87" // security namespace "Git Repositories"
	contribute   = 4                                      // its bit GenericContribute
)

// MayWrite reports whether somebody may push to the repository ("Contribute", by whatever group it
// comes): asked of Azure DevOps now, not remembered. The account's id must be known.
func (g *Client) MayWrite(ctx context.Context, a slipway.Account) (bool, error) {
	if a.ID == "" || a.Bot {
		return false, nil
	}
	r, err := g.known(ctx)
	if err != nil {
		return false, err
	}
	what := g.what("ask for the rights of " + a.Name + " in")
	var who struct {
		Value []struct {
			Descriptor string `json:"descriptor"`
			IsActive   bool   `json:"isActive"`
		} `json:"value"`
	}
	_, err = g.identities.Do(ctx, rest.Request{
		Path:  []string{g.organization, "_apis", "identities"},
		Query: url.Values{"identityIds": {a.ID}, "api-version": {version}}, Into: &who, What: what, Scope: needSecurity,
	})
	if err != nil || len(who.Value) != 1 || !who.Value[0].IsActive || who.Value[0].Descriptor == "" {
		return false, err
	}
	q := url.Values{"token": {"repoV2/" + r.Project.ID + "/" + r.ID}, "descriptors": {who.Value[0].Descriptor}, "includeExtendedInfo": {"true"}, "recurse": {"false"}}
	var lists struct {
		Value []struct {
			Entries map[string]struct {
				Extended struct {
					Allow int64 `json:"effectiveAllow"`
					Deny  int64 `json:"effectiveDeny"`
				} `json:"extendedInfo"`
			} `json:"acesDictionary"`
		} `json:"value"`
	}
	_, err = g.do(ctx, rest.Request{Path: []string{g.organization, "_apis", "accesscontrollists", gitNamespace}, Query: q, Into: &lists, What: what, Scope: needSecurity})
	if err != nil {
		return false, err
	}
	allowed := false
	for _, list := range lists.Value {
		e, ok := list.Entries[who.Value[0].Descriptor]
		if ok && e.Extended.Deny&contribute != 0 {
			return false, nil
		}
		allowed = allowed || ok && e.Extended.Allow&contribute != 0
	}
	return allowed, nil
}

// event is one subscription: Azure DevOps has one per kind of event.
type event struct {
	kind         string
	notification string // which updates of a pull request
	version      string // of the resource
}

func events() []event {
	return []event{
		{"git.push", "", "1.0"},
		{"git.pullrequest.created", "", "1.0"},
		{"git.pullrequest.updated", "PushNotification", "1.0"},
		{"git.pullrequest.updated", "StatusUpdateNotification", "1.0"},
		{"ms.vss-code.git-pullrequest-comment-event", "", "2.0"},
	}
}

type subscription struct {
	ID              string            `json:"id,omitempty"`
	PublisherID     string            `json:"publisherId"`
	EventType       string            `json:"eventType"`
	ResourceVersion string            `json:"resourceVersion"`
	ConsumerID      string            `json:"consumerId"`
	ConsumerAction  string            `json:"consumerActionId"`
	Publisher       map[string]string `json:"publisherInputs"`
	Consumer        map[string]string `json:"consumerInputs"`
}

// CreateHooks makes the five subscriptions that send to address, or sets right those that are there, and
// returns their ids; with an error, of those that were made.
func (g *Client) CreateHooks(ctx context.Context, address, secret string) ([]string, error) {
	r, err := g.known(ctx)
	if err != nil {
		return nil, err
	}
	there, err := g.subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range events() {
		s := subscription{
			PublisherID: "tfs", EventType: e.kind, ResourceVersion: e.version, ConsumerID: "webHooks", ConsumerAction: "httpRequest",
			Publisher: map[string]string{"projectId": r.Project.ID, "repository": r.ID},
			Consumer: map[string]string{
				"url": address, "basicAuthUsername": User, "basicAuthPassword": secret,
				"resourceDetailsToSend": "all", "messagesToSend": "none", "detailedMessagesToSend": "none",
			},
		}
		if e.notification != "" {
			s.Publisher["notificationType"] = e.notification
		}
		method, path := http.MethodPost, []string{g.organization, "_apis", "hooks", "subscriptions"}
		for _, old := range there {
			if old.EventType == e.kind && old.Consumer["url"] == address && old.Publisher["repository"] == r.ID && old.Publisher["notificationType"] == e.notification {
				s.ID, method = old.ID, http.MethodPut
			}
		}
		if s.ID != "" {
			path = append(path, s.ID)
		}
		var made subscription
		_, err := g.do(ctx, rest.Request{Method: method, Path: path, Body: s, Into: &made, What: g.what("make a service hook of"), Scope: needHook})
		if err != nil {
			return ids, err
		}
		ids = append(ids, made.ID)
	}
	return ids, nil
}

func (g *Client) subscriptions(ctx context.Context) ([]subscription, error) {
	var list struct {
		Value []subscription `json:"value"`
	}
	_, err := g.do(ctx, rest.Request{
		Path:  []string{g.organization, "_apis", "hooks", "subscriptions"},
		Query: url.Values{"consumerId": {"webHooks"}, "publisherId": {"tfs"}}, Into: &list, What: g.what("list the service hooks of"), Scope: needHook,
	})
	return list.Value, err
}

// DeleteHook removes a subscription; one that is gone already is no error.
func (g *Client) DeleteHook(ctx context.Context, id string) error {
	_, err := g.do(ctx, rest.Request{Method: http.MethodDelete, Path: []string{g.organization, "_apis", "hooks", "subscriptions", id}, What: g.what("remove the service hook of"), Scope: needHook})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	return err
}

// HookText says what to enter on Azure DevOps' pages for service hooks that are not made through the
// API. It holds the secret.
func HookText(c slipway.Connection, address, secret string) string {
	repository := c.Repository[strings.LastIndexByte(c.Repository, '/')+1:]
	return strings.Join([]string{
		"In the project of " + c.Repository + " on Azure DevOps, open Project settings, Service hooks, and create",
		"five subscriptions of Web Hooks, one for each trigger:",
		"  Code pushed",
		"  Pull request created",
		"  Pull request updated, Change: Source branch updated",
		"  Pull request updated, Change: Status changed",
		"  Pull request commented on",
		"each with:",
		"  Repository:                   " + repository,
		"  URL:                          " + address,
		"  Basic authentication username: " + User,
		"  Basic authentication password: " + secret,
		"  Resource details to send:     All",
		"  Messages to send:             None",
		"  Detailed messages to send:    None",
		"",
	}, "\n")
}
