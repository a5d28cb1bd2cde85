package main

import (
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// What gates said, and what they saw, is shown to those with a role in the project, and to nobody else.
func TestWhoSeesGates(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	ctx := t.Context()
	for _, name := range []string{"eve", "bob"} {
		must[slipway.User](t)(s.admin.CreateUser(ctx, name, false))
	}
	must[slipway.User](t)(s.admin.SetRole(ctx, "bob", "shop", slipway.Viewer))
	eve := must[*client.Client](t)(client.New(s.url, must[string](t)(s.admin.CreateToken(ctx, "eve", "test"))))
	bob := must[*client.Client](t)(client.New(s.url, must[string](t)(s.admin.CreateToken(ctx, "bob", "test"))))
	drop := func(_ any, err error) error { return err }
	for name, c := range map[string]struct {
		ask    func(c *client.Client) error
		viewer slipway.Code
	}{
		"gates of a run": {func(c *client.Client) error { return drop(c.Gates(ctx, slipway.GateFilter{RunID: 4})) }, ""},
		"gates of a service": {func(c *client.Client) error {
			return drop(c.Gates(ctx, slipway.GateFilter{Project: "shop", Service: "mail"}))
		}, ""},
		"manifests": {func(c *client.Client) error { return drop(c.Manifests(ctx, 1, "cart")) }, slipway.NotFound},
		"scan":      {func(c *client.Client) error { return drop(c.Scan(ctx, 1, "cart")) }, slipway.NotFound},
		"scans":     {func(c *client.Client) error { return drop(c.DeployedScans(ctx, "shop")) }, ""},
		"a test's history": {func(c *client.Client) error {
			return drop(c.CaseHistory(ctx, slipway.CaseFilter{Project: "shop", Service: "nothing", Name: "a"}))
		}, slipway.NotFound},
		"waivers":         {func(c *client.Client) error { return drop(c.Waivers(ctx, slipway.WaiverFilter{Project: "shop"})) }, ""},
		"a dry retention": {func(c *client.Client) error { return drop(c.Retention(ctx, "shop", true)) }, ""},
		"a retention":     {func(c *client.Client) error { return drop(c.Retention(ctx, "shop", false)) }, slipway.Forbidden},
		"a waiver": {func(c *client.Client) error {
			return drop(c.GiveWaiver(ctx, slipway.Waiver{Project: "shop", Gate: "tests"}))
		}, slipway.Forbidden},
	} {
		if err := c.ask(eve); slipway.ErrorCode(err) != slipway.NotFound {
			t.Errorf("%s, a stranger: %v", name, err)
		}
		if err := c.ask(bob); slipway.ErrorCode(err) != c.viewer {
			t.Errorf("%s, a viewer: %v, want %q", name, err, c.viewer)
		}
	}
	// A run is asked for by its number alone: its project is the run's own.
	all, err := bob.Gates(ctx, slipway.GateFilter{RunID: 4})
	if err != nil || len(all) != 2 || all[0].Gate != "tests" || all[0].Verdict != slipway.Fail || all[1].Gate != "coverage" || all[1].Verdict != slipway.Pass || all[0].Project != "shop" {
		t.Errorf("%+v %v", all, err)
	}
	const doc = "/api/v1/projects/shop/sboms/sha256:none"
	if resp, body := s.get(doc, "", "Authorization", "Bearer "+s.token); resp.StatusCode != 404 {
		t.Errorf("an SBOM that is not there: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.get(doc, ""); resp.StatusCode != 401 {
		t.Errorf("an SBOM for nobody: %d %s", resp.StatusCode, body)
	}
}
