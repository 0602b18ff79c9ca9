{{- define "senderz-gateway.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "senderz-gateway.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end }}

{{- define "senderz-gateway.url" -}}
{{ if .Values.tls.existingSecret -}}
https://{{ include "senderz-gateway.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- else -}}
http://{{ include "senderz-gateway.name" . }}:{{ .Values.service.port }}
{{- end }}
{{- end }}

{{/* The claim that backups are kept on. */}}
{{- define "senderz-gateway.backups" -}}
{{ .Values.backup.persistence.existingClaim | default (printf "%s-backups" (include "senderz-gateway.name" .)) }}
{{- end }}

{{/* Of the pods that ask for a backup: not the gateway's, or its service would lead to them. */}}
{{- define "senderz-gateway.backup.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-backup
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "senderz-gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "senderz-gateway.labels" -}}
{{ include "senderz-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* One table of config.toml after the other, in the order of their names. */}}
{{- define "senderz-gateway.config" -}}
{{- range $table, $keys := .Values.config }}
[{{ $table }}]
{{- range $key, $value := $keys }}
{{- /* Numbers of a values file are floats: 4096, not 4096.0 or 4.096e+03. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{ $key }} = {{ int64 $value }}
{{- else }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
