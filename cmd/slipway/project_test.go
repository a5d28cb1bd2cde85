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
	var out bytes.Buffer
	c := &cli{out: newPrinter(&out, false)}
	c.showProject(slipway.ProjectDetail{
		Project:    slipway.Project{Name: "shop"},
		Connection: &slipway.Connection{Forge: slipway.Gitea, Repository: "acme/shop", Credential: "forge/shop/token"},
		Health: &slipway.ForgeHealth{Since: time.Now(), Problems: []slipway.ForgeProblem{
			{Area: "fetch", Message: "git fetch: the requested URL returned error: 503"}}},
	}, "http://slipway.test")
	got := out.String()
	for _, want := range []string{"The forge does not answer as it should, since", "  fetch: git fetch:", "If it is the token, give a new one: slipway project connect shop --token-file FILE"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}
