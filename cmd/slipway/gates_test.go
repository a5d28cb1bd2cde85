package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// A gate that speaks at the chart and again before the deployment is told once for each service and environment.
func TestGatesAreToldOnce(t *testing.T) {
	t.Parallel()
	said := func(service, environment, gate string, v slipway.Verdict) slipway.GateResult {
		return slipway.GateResult{Service: service, Environment: environment, Gate: gate, Verdict: v}
	}
	in := []slipway.GateResult{
		said("mail", "qa", "manifests", slipway.Warn), said("cart", "qa", "manifests", slipway.Pass), said("cart", "", "tests", slipway.Pass),
		said("mail", "qa", "coverage", slipway.Pass), said("cart", "dev", "manifests", slipway.Pass), said("mail", "qa", "manifests", slipway.Fail),
	}
	want := []slipway.GateResult{in[2], in[4], in[1], in[3], in[5]}
	if got := lastSaid(in); !reflect.DeepEqual(got, want) {
		t.Errorf("told: %+v", got)
	}
	if in[0].Verdict != slipway.Warn || in[5].Verdict != slipway.Fail {
		t.Errorf("what was said is not as it was: %+v", in)
	}
}

// What is waived shows beside its gate, however much there is besides.
func TestWaiversShowWithTheirGates(t *testing.T) {
	t.Parallel()
	g := slipway.GateResult{Gate: "manifests", Service: "cart", Verdict: slipway.Fail, Summary: strings.Repeat("twelve failures, ", 9) + "2 waived until 2026-12-01"}
	for i := range 12 {
		g.Reasons = append(g.Reasons, slipway.GateReason{Verdict: slipway.Fail, Subject: fmt.Sprintf("probes Deployment/web%d", i), Message: "has none"})
	}
	waiver := &slipway.Waiver{Author: "ada", Reason: "ticket 812", Expires: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	g.Reasons = append(g.Reasons, slipway.GateReason{Verdict: slipway.Pass, Subject: "probes Deployment/worker", Message: "has none", Waiver: waiver})
	shown := func(all bool) string {
		var b strings.Builder
		c := &cli{out: &printer{w: &b, width: 200}}
		c.gateRows([]slipway.GateResult{g}, all)
		return b.String()
	}
	got := shown(false)
	for _, want := range []string{"probes Deployment/web9:", "probes Deployment/worker:", "waived by ada until 2026-12-01: ticket 812", "and 2 more: --all shows them", "…, 2 waived until 2026-12-01"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	var piped strings.Builder
	(&cli{out: &printer{w: &piped}}).gateRows([]slipway.GateResult{g}, false)
	if first, _, _ := strings.Cut(piped.String(), "\nprobes"); !strings.Contains(first, g.Summary) {
		t.Errorf("what is piped is cut:\n%s", piped.String())
	}
	if strings.Contains(got, "web10") || !strings.Contains(shown(true), "web11") || strings.Contains(shown(true), "--all") {
		t.Errorf("shown:\n%s\nwith --all:\n%s", got, shown(true))
	}
}

// Days from now are whole ones: a waiver for a day that is given in the evening holds through the next.
func TestUntilDay(t *testing.T) {
	t.Parallel()
	evening, midnight := time.Date(2026, 11, 21, 22, 30, 0, 0, time.UTC), time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text string
		now  time.Time
		want string
	}{
		{"1d", evening, "2026-11-23"}, {"1d", midnight, "2026-11-22"}, {"365d", evening, "2027-11-22"}, {"2026-12-31", evening, "2026-12-31"},
		{"366d", evening, ""}, {"0d", evening, ""}, {"-1d", evening, ""}, {"", evening, ""}, {"2026-02-30", evening, ""},
	} {
		got, err := untilDay(c.text, c.now)
		if (err != nil) != (c.want == "") || err == nil && (day(got) != c.want || got.Sub(c.now) > 366*24*time.Hour) {
			t.Errorf("%q: %s, %v, want %q", c.text, got, err, c.want)
		}
	}
}
