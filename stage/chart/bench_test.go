package chart_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage/chart"
)

// rendered is Helm whose renders are done already.
type rendered struct {
	chart.Helm
	what []chart.Rendered
}

func (r rendered) Check(context.Context, chart.Chart, []chart.Render) ([]chart.Rendered, error) {
	return r.what, nil
}

// hundred is a chart with 100 resources: 20 each of five kinds. Bad ones break several policies.
func hundred(bad bool) string {
	image, security := "nginx:1.27@sha256:"+strings.Repeat("0", 64), "{allowPrivilegeEscalation: false, runAsNonRoot: true}"
	if bad {
		image, security = "nginx:latest", "{privileged: true}"
	}
	pod := fmt.Sprintf(`
      containers:
      - name: web
        image: %s
        ports: [{name: http, containerPort: 8080}]
        env: [{name: A, value: b}, {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
        readinessProbe: {httpGet: {path: /healthz, port: http}}
        livenessProbe: {httpGet: {path: /healthz, port: http}}
        securityContext: %s`, image, security)
	labels := "{app.kubernetes.io/name: a, app.kubernetes.io/instance: b}"
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, labels: %s}\nspec:\n  selector: {matchLabels: %s}\n  template:\n    metadata: {labels: %s}\n    spec:%s\n", i, labels, labels, labels, pod)
		fmt.Fprintf(&b, "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: j%d, labels: %s}\nspec:\n  template:\n    metadata: {labels: %s}\n    spec:\n      restartPolicy: Never%s\n", i, labels, labels, pod)
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, labels: %s}\nspec: {selector: %s, ports: [{port: 80, targetPort: http}]}\n", i, labels, labels)
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d, labels: %s}\ndata: {a: b, file: %q}\n", i, labels, strings.Repeat("key: value of some length\n", 40))
		fmt.Fprintf(&b, "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i%d, labels: %s}\nspec: {rules: [{host: a.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {name: http}}}}]}}]}\n", i, labels)
	}
	return b.String()
}

// BenchmarkJudge is what a chart of 100 resources costs in one environment beside its rendering: schema,
// policies, report. First is the first chart of a server, whose schema has to be read; traced has some
// hundred problems, whose lines are looked for.
func BenchmarkJudge(b *testing.B) {
	for _, c := range []struct {
		name               string
		bad, first, traced bool
	}{{"warm", false, false, false}, {"first", false, true, false}, {"problems", true, false, false}, {"traced", true, false, true}} {
		b.Run(c.name, func(b *testing.B) {
			tree := b.TempDir()
			write(b, tree, "chart/Chart.yaml", "apiVersion: v2\nname: delivery\nversion: 0.1.0\n")
			write(b, tree, "chart/values.yaml", "a: b\n")
			write(b, tree, "chart/templates/all.yaml", hundred(c.bad))
			helm := helmchart.New(helmchart.Options{})
			loaded, problems, err := helm.Load(b.Context(), tree+"/chart", nil)
			if err != nil || len(problems) > 0 {
				b.Fatal(problems, err)
			}
			loaded.Name = "delivery"
			what, err := helm.Check(b.Context(), loaded, []chart.Render{{Release: "delivery", Namespace: "a"}})
			if err != nil || len(what[0].Objects) != 100 {
				b.Fatal(what, err)
			}
			opts := chart.Options{}
			if c.traced {
				opts.Tracer = helm
			}
			step := parseStep(b, "env: production shop-production\npolicies: defaults")
			library := &kubeschema.Library{}
			for b.Loop() {
				if c.first {
					library = &kubeschema.Library{}
				}
				res, err := chart.New(rendered{helm, what}, library, opts).Run(b.Context(), newEnv(b, tree).Env, step)
				if err != nil || res.Outcome != slipway.Succeeded || (len(res.Manifests[0].Problems) > 0) != c.bad {
					b.Fatal(res.Reason, err, res.Manifests)
				}
			}
		})
	}
}
