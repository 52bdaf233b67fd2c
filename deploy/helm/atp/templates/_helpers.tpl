{{- define "atp.name" -}}
{{ .Release.Name | trunc 48 | trimSuffix "-" }}
{{- end -}}

{{- define "atp.labels" -}}
app.kubernetes.io/part-of: atp
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "atp.dataplane" -}}
app.kubernetes.io/name: atp-dataplane
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atp.controlplane" -}}
app.kubernetes.io/name: atp-controlplane
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atp.memory" -}}
app.kubernetes.io/name: atp-memory
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "atp.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}
