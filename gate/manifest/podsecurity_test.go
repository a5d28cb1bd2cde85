package manifest_test

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway/gate/manifest"
)

// TestPodSecurityAgreesWithKubernetes runs the cases of the project that defines the standards: what
// passes there passes here, and what fails fails.
func TestPodSecurityAgreesWithKubernetes(t *testing.T) {
	t.Parallel()
	ar, err := txtar.ParseFile("testdata/podsecurity/upstream.txtar")
	if err != nil || len(ar.Files) < 100 {
		t.Fatalf("%d cases, %v", len(ar.Files), err)
	}
	for _, file := range ar.Files {
		level, rest, _ := strings.Cut(file.Name, "/")
		want, name, _ := strings.Cut(rest, "/")
		var found []string
		for _, p := range manifest.Check([]manifest.Object{{Fields: decode(t, string(file.Data))}}, manifest.Settings{PodSecurity: level}) {
			if p.Policy == manifest.PodSecurity {
				found = append(found, p.Path+": "+p.Message)
			}
		}
		if (len(found) == 0) != (want == "pass") {
			t.Errorf("%s %s should %s: found %q", level, name, want, found)
		}
	}
}

func TestPodSecurityPrivilegedAsksNothing(t *testing.T) {
	t.Parallel()
	o := decode(t, `{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true, containers: [{name: a, image: a, securityContext: {privileged: true}}]}}`)
	for _, p := range manifest.Check([]manifest.Object{{Fields: o}}, manifest.Settings{PodSecurity: manifest.Privileged}) {
		if p.Policy == manifest.PodSecurity {
			t.Error(p)
		}
	}
}
