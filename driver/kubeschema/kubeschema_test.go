package kubeschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway/stage/chart"
)

var _ chart.Schema = (*Schema)(nil)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func texts(v chart.Verdict) []string {
	var out []string
	for _, p := range v.Problems {
		out = append(out, p.String())
	}
	return out
}

func schema(t testing.TB) *Schema {
	t.Helper()
	all := versions()
	s, err := read(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  creationTimestamp: null
  annotations:
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 80, name: http}]
        resources: {limits: {cpu: 1, memory: 1.5Gi}, requests: {cpu: 100m, memory: "134217728"}}
        readinessProbe: {httpGet: {port: http, path: /}}
        livenessProbe: {tcpSocket: {port: 80}}
      volumes: [{name: tmp, emptyDir: {}}]
`

func TestCheck(t *testing.T) {
	t.Parallel()
	edit := func(from, to string) string {
		if !strings.Contains(deployment, from) {
			t.Fatalf("no %q in the deployment", from)
		}
		return strings.Replace(deployment, from, to, 1)
	}
	cases := map[string]struct {
		text string
		want []string
	}{
		"good": {deployment, nil},
		"wrong type": {edit("replicas: 2", `replicas: "two"`),
			[]string{`spec.replicas: must be a whole number, is the text "two"`}},
		"misspelt field": {edit("imagePullPolicy", "imagePullPolcy"),
			[]string{`spec.template.spec.containers[0].imagePullPolcy: unknown field, did you mean imagePullPolicy?`}},
		"wrong case": {edit("containerPort", "containerport"), []string{
			`spec.template.spec.containers[0].ports[0].containerPort: required, but missing`,
			`spec.template.spec.containers[0].ports[0].containerport: unknown field, did you mean containerPort?`}},
		"missing selector": {edit("selector: {matchLabels: {app: web}}", ""),
			[]string{"spec.selector: required, but missing"}},
		"selector null": {edit("{matchLabels: {app: web}}", ""),
			[]string{"spec.selector: required, but missing"}},
		"null in a list": {edit("volumes: [{name: tmp, emptyDir: {}}]", "volumes: [null]"),
			[]string{"spec.template.spec.volumes[0]: must be a map, is empty"}},
		"enumeration": {edit("IfNotPresent", "always"),
			[]string{`spec.template.spec.containers[0].imagePullPolicy: must be one of Always, IfNotPresent, Never, is the text "always"`}},
		"quantity": {edit("1.5Gi", "512MB"),
			[]string{"spec.template.spec.containers[0].resources.limits.memory: must be a number with a unit that Kubernetes knows, such as 100m, 0.5, 128Mi or 1G"}},
		"several": {strings.NewReplacer("replicas: 2", "replicas: true", "name: http", "nmae: http", "image: web:1", "image: [a]").Replace(deployment), []string{
			"spec.replicas: must be a whole number, is true",
			"spec.template.spec.containers[0].image: must be text, is a list",
			"spec.template.spec.containers[0].ports[0].nmae: unknown field, did you mean name?"}},
		"annotation is a number": {`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {a.b/c: 1}}}`,
			[]string{`metadata.annotations["a.b/c"]: must be text, is the number 1`}},
		"number in env": {`{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, env: [{name: X, value: 8080}]}]}}`,
			[]string{`spec.containers[0].env[0].value: must be text, is a number (put quotes around it)`}},
		"secret not base64": {`{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {password: "hunter2!"}}`,
			[]string{`data.password: must be base64 (b64enc in a template, or stringData instead of data)`}},
		"secret number": {`{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {pin: 4711}}`,
			[]string{`stringData.pin: must be text, is a number (put quotes around it)`}},
		"int or string": {`{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: http}, {port: 81, targetPort: 8080}, {port: 82, targetPort: 1.5}]}}`,
			[]string{`spec.ports[2].targetPort: must be a whole number or text, is the number 1.5`}},
		"32 bits": {`{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80000000000}]}}`,
			[]string{`spec.ports[0].port: does not fit into 32 bits`}},
		"empty enumeration": {`{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: "", ports: [{port: 80}]}}`, nil},
		"removed version": {`{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: a}}`,
			[]string{`apiVersion: Deployment is in apps/v1, not extensions/v1beta1 (Kubernetes v1.37.1)`}},
		"removed beta": {`{apiVersion: policy/v1beta1, kind: PodDisruptionBudget, metadata: {name: a}}`,
			[]string{`apiVersion: PodDisruptionBudget is in policy/v1, not policy/v1beta1 (Kubernetes v1.37.1)`}},
		"removed kind": {`{apiVersion: policy/v1beta1, kind: PodSecurityPolicy, metadata: {name: a}}`,
			[]string{`kind: Kubernetes v1.37.1 has no PodSecurityPolicy in policy/v1beta1`}},
		"misspelt kind": {`{apiVersion: v1, kind: ConfigMpa, metadata: {name: a}}`,
			[]string{`kind: Kubernetes v1.37.1 has no ConfigMpa in v1`}},
		"no kind": {`{apiVersion: v1, metadata: {name: a}}`,
			[]string{`not a Kubernetes object: apiVersion and kind are required and must be text`}},
		"status of a CRD as generators write it": {`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: as.b.c}, spec: {group: b.c, scope: Namespaced, names: {plural: as, kind: A},
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: array, items: {type: string}, default: [x]}}}}}]}}`, nil},
	}
	s := schema(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := s.Check(object(t, c.text))
			if !v.Known {
				t.Error("kind is not known")
			}
			if got := texts(v); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestCustomResourcesAreNotJudged(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for _, text := range []string{
		`{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}, spec: {x: 1}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}}`,
		`{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a}}`,
	} {
		if v := s.Check(object(t, text)); v.Known || len(v.Problems) > 0 {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for text, want := range map[string]bool{
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: a}}`: false,
		`{apiVersion: v1, kind: Namespace, metadata: {name: a}}`:                             false,
		`{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`:                             true,
	} {
		if v := s.Check(object(t, text)); v.Namespaced != want || len(v.Problems) > 0 {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

func TestAPIVersionsAreTheStableOnes(t *testing.T) {
	t.Parallel()
	got := schema(t).APIVersions()
	for _, want := range []string{"v1", "apps/v1", "apps/v1/Deployment", "policy/v1/PodDisruptionBudget"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, v := range got {
		if strings.Contains(v, "beta") || strings.Contains(v, "alpha") {
			t.Errorf("%s should not be there", v)
		}
	}
}

// TestEveryKindCompiles finds references that the generator left dangling.
func TestEveryKindCompiles(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for _, versions := range s.byKind {
		for av, k := range versions {
			if _, err := s.compile(k.Definition); err != nil {
				t.Errorf("%s %s: %v", av, k.Kind, err)
			}
		}
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	t.Parallel()
	data := map[string]any{}
	for i := range 1000 {
		data[fmt.Sprintf("k%04d", i)] = json.Number("1")
	}
	v := schema(t).Check(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": data})
	if len(v.Problems) != maxProblems+1 || v.Problems[maxProblems].String() != "and 950 more" {
		t.Errorf("%d problems, last %q", len(v.Problems), v.Problems[len(v.Problems)-1])
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := schema(t)
	o := object(t, deployment)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v := s.Check(o); len(v.Problems) > 0 {
				t.Error(v.Problems)
			}
		})
	}
	wg.Wait()
}

// FuzzCheck makes sure that no object, however odd, makes the check panic.
func FuzzCheck(f *testing.F) {
	s := schema(f)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"port":[]}]}}`))
	f.Add([]byte(`{"apiVersion":"apps/v1","kind":"Deployment","spec":null,"metadata":[1]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			return
		}
		if m, ok := v.(map[string]any); ok {
			s.Check(m)
		}
	})
}

func BenchmarkNewAndFirstDeployment(b *testing.B) {
	o := object(b, deployment)
	for b.Loop() {
		s := schema(b)
		if v := s.Check(o); len(v.Problems) > 0 {
			b.Fatal(v.Problems)
		}
	}
}

func Benchmark100Objects(b *testing.B) {
	s := schema(b)
	o := object(b, deployment)
	s.Check(o)
	for b.Loop() {
		for range 100 {
			if v := s.Check(o); len(v.Problems) > 0 {
				b.Fatal(v.Problems)
			}
		}
	}
}
