{{- define "service.name" -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "service.labels" -}}
{{ include "service.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | trunc 63 | trimAll "-._" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ .Values.partOf | default .Release.Namespace }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | trunc 63 | trimAll "-._" | quote }}
{{- end }}

{{- define "service.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ required "image.repository is required" .repository }}
{{- if .tag }}:{{ .tag }}{{ else if not .digest }}:{{ $.Chart.AppVersion }}{{ end }}
{{- if .digest }}@{{ .digest }}{{ end }}
{{- end -}}
{{- end }}

{{- define "service.account" -}}
{{- if .Values.serviceAccount.create }}{{ include "service.name" . }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "service.environment" -}}
{{- if or .Values.config .Values.envFrom }}
envFrom:
  {{- if .Values.config }}
  - configMapRef:
      name: {{ include "service.name" . }}
  {{- end }}
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "service.probe" -}}
{{- if .Values.probes.command -}}
exec:
  command:
    {{- toYaml .Values.probes.command | nindent 4 }}
{{- else if .Values.probes.path -}}
httpGet:
  path: {{ .Values.probes.path | quote }}
  port: http
{{- else -}}
tcpSocket:
  port: http
{{- end }}
timeoutSeconds: 2
{{- end }}
