package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// A forge that is down is not told as one that refuses its token.
func TestTroubleOfAForgeIsNotItsToken(t *testing.T) {
	t.Parallel()
	health := &slipway.ForgeHealth{Since: time.Now(), Problems: []slipway.ForgeProblem{
		{Area: "fetch", Message: "git fetch: the requested URL returned error: 503"}}}
	key := &slipway.DeployKey{Public: "ssh-ed25519 AAAA", Hosts: "git.example ssh-ed25519 AAAA\n", Problem: "it does not answer"}
	main := slipway.Codebase{Project: "shop", GitURL: "https://git.example/acme/shop"}
	further := func(name string, c *slipway.Connection, k *slipway.DeployKey) slipway.CodebaseDetail {
		d := slipway.CodebaseDetail{Codebase: slipway.Codebase{Project: "shop", Name: name, GitURL: "git@git.example:acme/" + name}, Connection: c, DeployKey: k}
		if c != nil {
			d.Health = health
		}
		return d
	}
	var out bytes.Buffer
	c := &cli{out: newPrinter(&out, false)}
	c.showProject(slipway.ProjectDetail{
		Project:        slipway.Project{Name: "shop", GitURL: main.GitURL},
		CodebaseDetail: slipway.CodebaseDetail{Codebase: main, Connection: &slipway.Connection{Forge: slipway.Gitea, Repository: "acme/shop", Credential: "token"}, Health: health},
		Codebases: []slipway.CodebaseDetail{
			further("keyed", nil, key),
			further("hooked", &slipway.Connection{Forge: slipway.Gitea, Repository: "acme/hooked"}, key),
			further("both", &slipway.Connection{Forge: slipway.Gitea, Repository: "acme/both", Credential: "token", Shared: true}, key),
			further("bare", nil, nil),
		},
	}, "http://slipway.test")
	got := out.String()
	for _, want := range []string{
		"The forge does not answer as it should, since", "  fetch: git fetch:", "If it is the token, give a new one: slipway project connect shop --token-file FILE",
		"state:           it does not answer", "Another key: slipway codebase connect hooked --deploy-key FILE, or new", "With one, all of that works: slipway codebase connect hooked --token-file FILE",
		"Gitea, acme/both, with the project's token", "or one of its own: slipway codebase connect both --token-file FILE", "not connected: polled (slipway codebase connect bare)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "deploy key:"); n != 3 {
		t.Errorf("%d deploy keys in\n%s", n, got)
	}
}

// A person is told when a codebase was polled last, and that it did nothing.
func TestPollRows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, poll := range map[string]*slipway.Poll{
		"not since the server started, ": {Since: now},
		"and it did nothing: no answer":  {Since: now, Time: now, Problem: "no answer"},
		"ago":                            {Since: now, Time: now.Add(-time.Hour)},
	} {
		if rows := pollRows(poll); len(rows) != 1 || !strings.Contains(rows[0][1], want) {
			t.Errorf("a person is told %v, want %q", rows, want)
		}
	}
	if rows := pollRows(nil); rows != nil {
		t.Errorf("of what is not polled a person is told %v", rows)
	}
}
