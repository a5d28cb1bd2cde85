package web

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"CVE-1 zlib", "CVE-1 zlib", true}, {"CVE-1 zlib", "CVE-1 zlib2", false}, {"CVE-1 *", "CVE-1 zlib", true}, {"*", "anything", true}, {"*", "", true},
		{"*zlib", "CVE-1 zlib", true}, {"*zlib", "CVE-1 zlib2", false}, {"C*1*b", "CVE-1 zlib", true}, {"C*2*b", "CVE-1 zlib", false}, {"ab*ba", "aba", false},
		{"a*b*c", "abc", true}, {"a*b*c", "acb", false}, {"a**c", "abc", true}, {"", "", true}, {"", "x", false}, {"a*a", "a", false},
	} {
		if got := (slipway.Waiver{Subject: c.pattern}).Covers(c.subject); got != c.want {
			t.Errorf("%q names %q: %v", c.pattern, c.subject, got)
		}
	}
}

const listing = `apiVersion: apps/v1
kind: Deployment
metadata:
  annotations:
    a/b: "x"
    "quoted: key": y
  name: web
spec:
  template:
    spec:
      containers:
        - args:
            - --image
          env:
            - name: web
              value: a
            - name: B
              valueFrom:
                secretKeyRef:
                  name: s
          image: one
          name: sidecar
        - image: two
          name: web
          resources: {}
      volumes:
      - name: tmp
        emptyDir: {}
      - name: web
        configMap:
          name: x
  text: |
    containers:
      - name: no
rules:
  - - a
    - b
image: last
`

// A path leads to its line, or to that of the longest part of it that is there.
func TestLineOf(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimRight(listing, "\n"), "\n")
	for path, want := range map[string]string{
		"kind": "kind: Deployment", "spec.template.spec.containers[web].image": "        - image: two", "spec.template.spec.containers[sidecar].image": "          image: one",
		"spec.template.spec.containers[1].resources.limits": "          resources: {}", "spec.template.spec.containers[sidecar].env[B].valueFrom.secretKeyRef.name": "                  name: s",
		"spec.template.spec.containers[sidecar].env[1]": "            - name: B", "spec.template.spec.containers[web]": "        - image: two", "spec.template.spec.containers[gone].image": "      containers:",
		"spec.template.spec.volumes[web].configMap": "        configMap:", "spec.template.spec.volumes[tmp]": "      - name: tmp", "spec.template.spec.volumes[0].emptyDir": "        emptyDir: {}",
		`metadata.annotations["a/b"]`: `    a/b: "x"`, `metadata.annotations["quoted: key"]`: `    "quoted: key": y`, "metadata.labels": "metadata:", "image": "image: last", "spec.image": "spec:",
		"spec.text": "  text: |", "containers": "", "nothing.at.all": "", "": "", ".": "", "[": "", "a[b": "", `["unclosed`: "", "spec.": "spec:", "rules[0]": "  - - a", "metadata.name[x].y": "  name: web",
	} {
		got := ""
		if n := lineOf(lines, path); n >= 0 {
			got = lines[n]
		}
		if got != want {
			t.Errorf("%s leads to %q, not to %q", path, got, want)
		}
	}
	for _, odd := range [][]string{nil, {""}, {"- "}, {"-"}, {"   "}, {"a:", "- b"}, {"a:", "  - b:", "-"}} {
		for _, path := range []string{"a", "a[0]", "a[b].c", "[0]", "a[0][0]"} {
			lineOf(odd, path) // ends
		}
	}
}

// However much there is, a page shows a bounded part of it, with every remark.
func TestManifestsBounded(t *testing.T) {
	t.Parallel()
	p := &manifestsPage{Service: "web"}
	var big strings.Builder
	big.WriteString("data:\n")
	for i := range 60_000 {
		fmt.Fprintf(&big, "  key-%05d: some value that makes it long\n", i)
	}
	p.Report.Objects = []slipway.ManifestObject{{Name: "ConfigMap/small", YAML: "kind: ConfigMap\n"}, {Name: "ConfigMap/big", YAML: big.String()}, {Name: "ConfigMap/line", YAML: "data:\n  x: " + strings.Repeat("ü", 1<<20) + "\n"}, {Name: "ConfigMap/big", YAML: "a: b\n"}}
	for i := range 500 {
		p.Report.Problems = append(p.Report.Problems, slipway.ManifestProblem{Policy: "x", Object: "ConfigMap/big", Path: fmt.Sprintf("data.key-%05d", i*100), Message: "m"})
	}
	p.annotate()
	lines, bytes, remarks, hidden := 0, 0, 0, 0
	for _, o := range p.Objects {
		hidden += o.Hidden
		for _, part := range o.Parts {
			lines += strings.Count(part.Text, "\n")
			if part.Line != "" {
				lines++
			}
			bytes += len(part.Text) + len(part.Line)
			remarks += len(part.Remarks)
		}
	}
	if lines > pageLines || bytes > 500_000 || remarks != 500 || len(p.Remarks) != pageRemarks || p.More != 200 || hidden+lines != 60_001+1+2+1 {
		t.Errorf("%d lines, %d bytes, %d remarks, %d left out", lines, bytes, remarks, hidden)
	}
	if p.Objects[0].Name != "ConfigMap/big" || p.Objects[0].Count != 500 || len(p.Objects) != 4 {
		t.Errorf("the first is %s", p.Objects[0].Name)
	}
}

func TestSplitNotes(t *testing.T) {
	t.Parallel()
	got := splitNotes([]string{"tests: 3 passed", "gate a: pass: fine", "gate b: fail: 1: 2", "gate c: maybe: x", "gate d", "gate : pass", "gates: pass: x"})
	if want := "[{b 1: 2 fail} {a fine pass} {  pass}] [tests: 3 passed gate c: maybe: x gate d gates: pass: x]"; fmt.Sprint(got["Gates"], got["Rest"]) != want {
		t.Errorf("they are %v %v", got["Gates"], got["Rest"])
	}
}

// Every reason is on the page or counted, and those of one gate do not take the room of all others.
func TestReasonsBounded(t *testing.T) {
	t.Parallel()
	var said []slipway.GateResult
	for i := range 20 {
		g := slipway.GateResult{Step: "scan/a", Gate: fmt.Sprint("gate-", i), Service: "a", Verdict: slipway.Fail}
		for j := range 500 {
			g.Reasons = append(g.Reasons, slipway.GateReason{Verdict: slipway.Fail, Subject: fmt.Sprint(i, "/", j)})
		}
		said = append(said, g)
	}
	l := listGates(slipway.RunDetail{}, said, waived{}, "/runs/1")
	shown, more := 0, 0
	for _, row := range l.Rows {
		shown, more = shown+len(row.Said[0].First)+len(row.Said[0].Rest), more+row.Said[0].More
		if len(row.Said[0].First) != firstReasons {
			t.Errorf("%s shows %d reasons at once", row.Gate, len(row.Said[0].First))
		}
	}
	if shown != 20*firstReasons+mostReasons || shown+more != 10_000 || l.Open != 10_000 {
		t.Errorf("%d are shown, %d more", shown, more)
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	image := slipway.Artifact{Service: "a", Kind: slipway.ArtifactImage, Repository: "r/a", Digest: "sha256:1"}
	promoted := image
	promoted.Repository = "r/prod/a"
	signature := slipway.Artifact{Service: "a", Kind: slipway.ArtifactSignature, Repository: "r/a", Digest: "sha256:2", Subject: "sha256:1"}
	copied := signature
	copied.Repository = "r/prod/a"
	foreign := slipway.Artifact{Service: "a", Kind: slipway.ArtifactSignature, Digest: "sha256:3", Subject: "sha256:9"}
	d := slipway.RunDetail{Artifacts: []slipway.Artifact{image, promoted, foreign}}
	if got := proofs(d, ""); got != nil {
		t.Errorf("nothing is signed: %v", got)
	}
	d.Steps = []slipway.Step{{Spec: slipway.PlanStep{Key: "attest/a"}, State: slipway.StepSucceeded}}
	if got := proofs(d, ""); len(got) != 1 || !got[0].Missing || got[0].Signed != 0 {
		t.Errorf("the signature is missing: %v", got)
	}
	d.Artifacts = append(d.Artifacts, signature, copied)
	if got := proofs(d, "a"); len(got) != 1 || got[0].Missing || got[0].Signed != 1 || got[0].Ref != "r/a@sha256:1" {
		t.Errorf("it is signed once: %v", got)
	}
	if got := proofs(d, "b"); got != nil {
		t.Errorf("of another service: %v", got)
	}
}

// Gates that failed are unfolded as long as they are few: of many the list is read first.
func TestFewGatesAreUnfolded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{0: true, openGates: true, openGates + 1: false, 40: false} {
		var said []slipway.GateResult
		for i := range n {
			said = append(said, slipway.GateResult{Gate: fmt.Sprint("rule-", i), Service: "web", Verdict: slipway.Fail, Reasons: []slipway.GateReason{{Verdict: slipway.Fail, Subject: "x"}}})
		}
		said = append(said, slipway.GateResult{Gate: "tests", Service: "web", Verdict: slipway.Pass})
		if got := listGates(slipway.RunDetail{}, said, waived{}, "/runs/1").Few(); got != want {
			t.Errorf("of %d that failed: few is %v", n, got)
		}
	}
}
