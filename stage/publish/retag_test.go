package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/publish"
)

func (w *world) retagger() *publish.Retagger {
	return &publish.Retagger{Host: stableHost, Embedded: w.embedded, Outside: w.client}
}

// published is a build that went through publish and now stands before its retag.
func (w *world) published(runID int64, tag string, from, to slipway.Registry) built {
	w.t.Helper()
	b := w.build(runID, tag, from)
	res := b.run(w.t, &publish.Runner{Registry: w.client})
	if res.Outcome != slipway.Succeeded {
		w.t.Fatalf("%+v", res)
	}
	b.env.Artifacts = append(b.env.Artifacts, res.Artifacts...)
	b.env.Journal = &journal{values: map[string][]byte{}}
	b.step = slipway.PlanStep{
		Key: "retag/delivery@production", Kind: slipway.KindRetag, Service: "delivery", Environment: "production",
		Retag: &slipway.RetagSpec{
			FromImage: image(from), ToImage: image(to), Tag: tag,
			FromChart: chart(from), ToChart: chart(to), ChartVersion: b.step.Publish.ChartVersion,
		},
	}
	return b
}

func TestRetagBetweenRegistries(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{stableHost, stableHost}, {stableHost, outsideHost}, {outsideHost, stableHost}, {outsideHost, outsideHost}} {
		t.Run(c[0]+" to "+c[1], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			from, to := w.registry(c[0], ""), w.registry(c[1], "prod")
			b := w.published(1, "v1.0.2", from, to)
			sbom, err := w.client.PushArtifact(t.Context(), image(from), oci.Attachment{ArtifactType: "application/spdx+json", MediaType: "application/json", Data: []byte("{}")}, b.digest())
			if err != nil {
				t.Fatal(err)
			}
			res := b.run(t, w.retagger())
			if res.Outcome != slipway.Succeeded || len(res.Artifacts) != 2 {
				t.Fatalf("%+v", res)
			}
			for _, a := range res.Artifacts {
				if !strings.HasPrefix(a.Repository, c[1]+"/prod/shop/") || a.Step != b.step.Key {
					t.Errorf("artifact %+v", a)
				}
			}
			if got := w.tag(image(to), "v1.0.2"); got != b.digest() || res.Artifacts[1].Digest != got {
				t.Errorf("production image is %q, built %s", got, b.digest())
			}
			if got := w.tag(chart(to), "1.0.2"); got != w.tag(chart(from), "1.0.2") || got != res.Artifacts[0].Digest {
				t.Errorf("production chart is %q", got)
			}
			list, err := w.client.Referrers(t.Context(), image(to), b.digest())
			if err != nil || len(list) != 1 || list[0].Digest != sbom {
				t.Errorf("referrers in production %+v, %v", list, err)
			}
			if again := b.run(t, w.retagger()); again.Outcome != slipway.Succeeded {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

func TestRetagRefuses(t *testing.T) {
	t.Parallel()
	other := "sha256:" + strings.Repeat("a", 64)
	approved := func(image, chart string, environment string) []slipway.Approval {
		return []slipway.Approval{{Service: "delivery", Environment: environment, State: slipway.ApprovalApproved, ImageDigest: image, ChartDigest: chart}}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, w *world, b *built)
		says   []string // nothing: it succeeds
	}{
		{"approved", func(_ *testing.T, _ *world, b *built) {
			b.env.Approvals = approved(b.digest(), b.env.Artifacts[4].Digest, "production")
		}, nil},
		{"approved elsewhere", func(_ *testing.T, _ *world, b *built) { b.env.Approvals = approved(other, other, "staging") }, nil},
		{"another image was approved", func(_ *testing.T, _ *world, b *built) {
			b.env.Approvals = approved(other, b.env.Artifacts[4].Digest, "production")
		}, []string{other, "approve again"}},
		{"another chart was approved", func(_ *testing.T, _ *world, b *built) {
			b.env.Approvals = approved(b.digest(), other, "production")
		}, []string{other, "chart", "approve again"}},
		{"the candidate moved", func(t *testing.T, w *world, b *built) {
			moved := w.build(9, "v1.0.2", b.step.Retag.FromImage.Registry) // someone else's registry lets tags move
			if err := w.client.Copy(t.Context(), b.step.Retag.FromImage, moved.digest(), slipway.Repository{Registry: b.step.Retag.FromImage.Registry, Name: "elsewhere/delivery"}, "v1.0.2"); err != nil {
				t.Fatal(err)
			}
			b.step.Retag.FromImage.Name = "elsewhere/delivery"
		}, []string{"has moved", "next version"}},
		{"the candidate is gone", func(_ *testing.T, _ *world, b *built) { b.step.Retag.Tag = "v7" }, []string{"is gone", "v7"}},
		{"production has another", func(t *testing.T, w *world, b *built) {
			prod := b.step.Retag.ToImage
			taken := w.build(8, "v1.0.2", slipway.Registry{Host: prod.Registry.Host, Address: prod.Registry.Address})
			from := slipway.Repository{Registry: prod.Registry, Name: "shop/delivery"}
			if err := w.embedded.Copy(t.Context(), from, taken.digest(), prod, "v1.0.2"); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not moved", "next version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.published(1, "v1.0.2", w.registry(outsideHost, ""), w.registry(stableHost, "prod"))
			before := w.tag(b.step.Retag.ToImage, "v1.0.2")
			c.change(t, w, &b)
			res := b.run(t, w.retagger())
			if (res.Outcome == slipway.Failed) != (c.says != nil) {
				t.Fatalf("%+v", res)
			}
			for _, part := range c.says {
				if !strings.Contains(res.Reason, part) {
					t.Errorf("%q does not say %q", res.Reason, part)
				}
			}
			if got := w.tag(b.step.Retag.ToImage, "v1.0.2"); c.says != nil && got == b.digest() && got != before {
				t.Error("refused, and yet the image is in production")
			}
		})
	}
}

func TestRetagAfterAKillAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from, to := w.registry(stableHost, ""), w.registry(stableHost, "prod")
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			tag := fmt.Sprintf("v1.%d.%d", map[bool]int{true: 1}[after], n)
			b := w.published(int64(n), tag, from, to)
			d := &dying{Client: w.client, embedded: w.embedded, left: n, after: after}
			_, err := (&publish.Retagger{Host: stableHost, Embedded: d, Outside: d}).Run(t.Context(), b.env, b.step)
			if err == nil {
				if n < 5 {
					t.Errorf("only %d calls", n)
				}
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			res := b.run(t, w.retagger())
			if res.Outcome != slipway.Succeeded || w.tag(image(to), tag) != b.digest() || w.tag(chart(to), tag[1:]) == "" {
				t.Errorf("killed at call %d (after it: %v): the repeat gave %+v", n, after, res)
			}
		}
	}
}

func TestRetagTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.published(1, "v1.0.2", w.registry(stableHost, ""), w.registry(stableHost, "prod"))
	run := func(env stage.Env, step slipway.PlanStep) slipway.Code {
		_, err := w.retagger().Run(t.Context(), env, step)
		return slipway.ErrorCode(err)
	}
	empty := b.env
	empty.Artifacts = nil
	if got := run(empty, b.step); got != slipway.Internal {
		t.Errorf("no artifacts: %q", got)
	}
	step := b.step
	step.Retag = nil
	if got := run(b.env, step); got != slipway.Internal {
		t.Errorf("no spec: %q", got)
	}
	if err := w.embedded.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(b.env, b.step); got != slipway.Unavailable {
		t.Errorf("registry closed: %q", got)
	}
}
