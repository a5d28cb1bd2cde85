package see

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// One person's streams do not take the place of another's, and a stream is left once.
func TestStreamsOfAUser(t *testing.T) {
	t.Parallel()
	s := &Reader{}
	ada, bob := slipway.User{Name: "ada"}, slipway.User{Name: "bob"}
	var leaves []func()
	for range maxStreams {
		leave, err := s.Enter(ada)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	if _, err := s.Enter(ada); slipway.ErrorCode(err) != slipway.TooMany || !strings.Contains(err.Error(), "32 streams") {
		t.Errorf("one more: %v", err)
	}
	if _, err := s.Enter(bob); err != nil {
		t.Errorf("bob: %v", err)
	}
	leaves[0]()
	leaves[0]()
	if _, err := s.Enter(ada); err != nil {
		t.Errorf("after one was left: %v", err)
	}
	if _, err := s.Enter(ada); err == nil {
		t.Error("one that was left twice made room for two")
	}
	for _, leave := range leaves[1:] {
		leave()
	}
	if s.open["ada"] != 1 || s.open["bob"] != 1 {
		t.Errorf("open: %v", s.open)
	}
}

// What only pages ask is refused to strangers before anything is read.
func TestPagesAskForStrangers(t *testing.T) {
	t.Parallel()
	s, ctx := &Reader{}, t.Context()
	for who, by := range map[string]slipway.User{"a stranger": {Name: "eve"}, "nobody": {}} {
		want := slipway.NotFound
		if by.Name == "" {
			want = slipway.Unauthorized
		}
		_, counts := s.DeployedCounts(ctx, by, "shop")
		_, scan := s.DeployedScan(ctx, by, "shop", "cart", "qa")
		_, history := s.CaseHistory(ctx, by, slipway.CaseFilter{Project: "shop", Service: "cart", Name: "a"})
		for what, err := range map[string]error{"counts": counts, "a scan": scan, "a history": history} {
			if slipway.ErrorCode(err) != want {
				t.Errorf("%s, %s: %v", what, who, err)
			}
		}
	}
}
