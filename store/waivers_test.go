package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestWaivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "blog"}, "ada"))
	end := w.clock.now().Add(24 * time.Hour)
	first := slipway.Waiver{Project: "shop", Gate: "vulnerabilities", Subject: "CVE-1 openssl", Service: "web", Environment: "prod", Reason: "not reachable", Author: "ada", Expires: end}
	given, err := w.GiveWaiver(w.ctx, first)
	w.ok(err)
	again, err := w.GiveWaiver(w.ctx, slipway.Waiver{Project: "shop", Gate: "tests", Subject: "a", Reason: "r", Author: "bob", Expires: end})
	w.ok(err)
	w.do(w.GiveWaiver(w.ctx, slipway.Waiver{Project: "blog", Gate: "tests", Subject: "a", Reason: "r", Author: "bob", Expires: end}))
	first.ID, first.CreatedAt = given.ID, given.CreatedAt
	if given.ID == 0 || given.CreatedAt.IsZero() || given != first {
		t.Errorf("given %+v", given)
	}
	kept, err := w.Waiver(w.ctx, given.ID)
	w.ok(err)
	if !kept.Expires.Equal(end) || !kept.Withdrawn.IsZero() || kept.Subject != first.Subject || kept.Service != "web" || kept.Environment != "prod" ||
		kept.Reason != "not reachable" || kept.Author != "ada" || kept.Gate != "vulnerabilities" || kept.Project != "shop" || !kept.CreatedAt.Equal(given.CreatedAt) {
		t.Errorf("kept %+v", kept)
	}
	back, err := w.WithdrawWaiver(w.ctx, given.ID, "bob")
	w.ok(err)
	if back.Withdrawn.IsZero() || back.Author != "ada" || back.Holds(w.clock.now()) {
		t.Errorf("withdrawn %+v", back)
	}
	w.code(drop(w.WithdrawWaiver(w.ctx, given.ID, "bob")), slipway.Conflict)
	w.code(drop(w.WithdrawWaiver(w.ctx, 99, "bob")), slipway.Conflict)
	w.code(drop(w.Waiver(w.ctx, 99)), slipway.NotFound)
	all, err := w.Waivers(w.ctx, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	if len(all) != 2 || all[0].ID != again.ID || all[1].ID != given.ID || all[1].Withdrawn.IsZero() {
		t.Errorf("waivers of shop: %+v", all)
	}
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "waiver."})
	w.ok(err)
	var got []string
	for _, e := range es {
		got = append(got, e.Kind+" "+e.Actor+": "+e.Message)
	}
	want := []string{
		"waiver.given ada: ada waived CVE-1 openssl of gate vulnerabilities until 2026-11-22: not reachable",
		"waiver.given bob: bob waived a of gate tests until 2026-11-22: r",
		"waiver.withdrawn bob: bob withdrew the waiver of CVE-1 openssl for gate vulnerabilities",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events:\n%s", strings.Join(got, "\n"))
	}
}

// One that has ended cannot be taken back: it let nothing through any more.
func TestAnExpiredWaiverIsNotWithdrawn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	given, err := w.GiveWaiver(w.ctx, slipway.Waiver{Project: "shop", Gate: "tests", Subject: "a", Reason: "r", Author: "ada", Expires: w.clock.now().Add(time.Hour)})
	w.ok(err)
	w.clock.add(2 * time.Hour)
	w.code(drop(w.WithdrawWaiver(w.ctx, given.ID, "ada")), slipway.Conflict)
	if kept, err := w.Waiver(w.ctx, given.ID); err != nil || !kept.Withdrawn.IsZero() {
		t.Errorf("%+v %v", kept, err)
	}
}

// The database refuses one without a reason, whoever forgot to ask.
func TestAWaiverNeedsAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.GiveWaiver(w.ctx, slipway.Waiver{Project: "shop", Gate: "tests", Subject: "a", Author: "ada", Expires: w.clock.now()}); err == nil || !strings.Contains(err.Error(), "record waiver of a") {
		t.Error(err)
	}
	if es, err := w.Events(w.ctx, 0, slipway.EventFilter{Kind: "waiver."}); err != nil || len(es) != 0 {
		t.Errorf("%+v %v", es, err)
	}
}

// What holds is never cut off, however many were given since; what does not hold any more comes in pages.
func TestWaiversComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	give := func(hours int) int64 {
		t.Helper()
		v, err := w.GiveWaiver(w.ctx, slipway.Waiver{Project: "shop", Gate: "tests", Subject: "a", Reason: "r", Author: "ada", Expires: w.clock.now().Add(time.Duration(hours) * time.Hour)})
		w.ok(err)
		return v.ID
	}
	first := give(1000)
	for range 7 {
		give(1)
	}
	back := give(1000)
	w.do(w.WithdrawWaiver(w.ctx, back, "ada"))
	last := give(1000)
	w.clock.add(2 * time.Hour)
	ids := func(f slipway.WaiverFilter) (out []int64) {
		t.Helper()
		f.Project = "shop"
		all, err := w.Waivers(w.ctx, f)
		w.ok(err)
		for _, v := range all {
			out = append(out, v.ID)
		}
		return out
	}
	for _, c := range []struct {
		f    slipway.WaiverFilter
		want []int64
	}{
		{slipway.WaiverFilter{Holding: true}, []int64{last, first}},
		{slipway.WaiverFilter{Limit: 3}, []int64{last, first, back, 8, 7}},
		{slipway.WaiverFilter{Limit: 3, Before: 7}, []int64{6, 5, 4}},
		{slipway.WaiverFilter{Limit: 3, Before: 4}, []int64{3, 2}},
		{slipway.WaiverFilter{Limit: 3, Before: 2}, nil},
		{slipway.WaiverFilter{Holding: true, Before: 7}, nil},
		{slipway.WaiverFilter{}, []int64{last, first, back, 8, 7, 6, 5, 4, 3, 2}},
	} {
		if got := ids(c.f); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}
