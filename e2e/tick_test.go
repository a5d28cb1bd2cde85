package e2e_test

import (
	"fmt"
	"strings"
)

// tick is the repository of a small service that builds, tests and starts in a second or two. What it
// does slowly or wrongly is set by files: slow/build and slow/test hold seconds, chart/values.yaml has
// hook (seconds of a pre-upgrade hook), health and failing.
func tick() tree {
	return tree{
		"slipway.yaml": `version: 1
environments:
  - name: qa
    timeout: 5m
  - name: production
    production: true
    timeout: 5m
    approvals:
      required: 1
`,
		"tick/Dockerfile": `FROM busybox:1.36 AS base
WORKDIR /tick
COPY slow ./slow
COPY www ./www
RUN echo "the build begins" && sleep "$(cat slow/build)" && cp www/index.html www/built.html

FROM base AS testrunner
COPY tests.sh ./
ENTRYPOINT ["/bin/sh", "tests.sh"]

FROM busybox:1.36 AS final
COPY --from=base /tick/www /www
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
`,
		"tick/.dockerignore":  "chart\n",
		"tick/slow/build":     "0",
		"tick/slow/test":      "0",
		"tick/www/index.html": "tick\n",
		"tick/tests.sh": `echo "the tests begin"
sleep "$(cat slow/test)"
mkdir -p TestResults
echo '<testsuite name="tick" tests="1"><testcase name="ticks" classname="tick" time="0.1"/></testsuite>' > TestResults/junit.xml
`,
		"tick/chart/Chart.yaml":  "apiVersion: v2\nname: tick\ntype: application\nversion: 0.0.0\nappVersion: 0.0.0\n",
		"tick/chart/values.yaml": tickValues(nil),
		"tick/chart/templates/objects.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  greeting: {{ .Values.greeting | quote }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {app: {{ .Release.Name }}}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: 1
  revisionHistoryLimit: 2
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {greeting: {{ .Values.greeting | quote }}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      imagePullSecrets: {{- toYaml .Values.imagePullSecrets | nindent 8 }}
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: tick
          image: {{ include "image" . }}
          ports: [{name: http, containerPort: 8080}]
          readinessProbe:
            httpGet: {path: {{ .Values.health }}, port: http}
            periodSeconds: 1
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`,
		"tick/chart/templates/_image.tpl": `{{- define "image" -}}
{{- with .Values.image }}{{ .registry }}/{{ .repository }}@{{ .digest }}{{ end -}}
{{- end -}}
`,
		"tick/chart/templates/hook.yaml": `{{- if .Values.hook }}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-hook
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
spec: {{- include "podOnce" (dict "root" . "script" (printf "sleep %v" .Values.hook)) | nindent 2 }}
{{- end }}
`,
		"tick/chart/templates/test.yaml": `apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation
spec: {{- include "podOnce" (dict "root" . "script" (ternary "echo this version is bad; exit 1" "exit 0" .Values.failing)) | nindent 2 }}
`,
		"tick/chart/templates/_once.tpl": `{{- define "podOnce" -}}
restartPolicy: Never
automountServiceAccountToken: false
terminationGracePeriodSeconds: 0
imagePullSecrets: {{- toYaml .root.Values.imagePullSecrets | nindent 2 }}
securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
containers:
  - name: once
    image: {{ include "image" .root }}
    command: ["/bin/sh", "-c", {{ .script | quote }}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end -}}
`,
	}
}

// tickValues are the chart's values with changes: "key: value" lines.
func tickValues(changes map[string]string) string {
	values := []struct{ key, value string }{{"greeting", "hello"}, {"health", "/"}, {"hook", "0"}, {"failing", "false"}}
	var b strings.Builder
	b.WriteString("image: {registry: '', repository: tick, tag: '', digest: ''}\nimagePullSecrets: []\nreason: ''\n")
	for _, v := range values {
		value := v.value
		if c, ok := changes[v.key]; ok {
			value = c
		}
		fmt.Fprintf(&b, "%s: %s\n", v.key, value)
	}
	return b.String()
}
