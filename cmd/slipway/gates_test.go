package main

import (
	"reflect"
	"testing"

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
