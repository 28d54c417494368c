{{/* Names what this release makes. */}}
{{- define "green-training.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes, for selectors. */}}
{{- define "green-training.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "green-training.testSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{/* Labels of every object; a merge, so that those of the values cannot stand twice. */}}
{{- define "green-training.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63)
  "app.kubernetes.io/name" .Chart.Name
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
-}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{/* Name and labels of an object of the operator's. */}}
{{- define "green-training.metadata" -}}
name: {{ include "green-training.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  app.kubernetes.io/component: operator
  {{- include "green-training.labels" . | nindent 2 }}
{{- end -}}

{{- define "green-training.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "green-training.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: name one that exists, or set serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "green-training.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The pod security level "restricted", and a root file system that nobody writes to. */}}
{{- define "green-training.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "green-training.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
{{- end -}}

{{/* What operator and test pods have in common. */}}
{{- define "green-training.podDefaults" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Apart by machine first, by failure zone next; never so that a replica cannot be placed. */}}
{{- define "green-training.spread" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
  {{- $selector := include "green-training.selector" . }}
  {{- range $key, $weight := dict "kubernetes.io/hostname" 100 "topology.kubernetes.io/zone" 50 }}
  - weight: {{ $weight }}
    podAffinityTerm:
      topologyKey: {{ $key }}
      labelSelector:
        matchLabels:
          {{- $selector | nindent 10 }}
  {{- end }}
{{- end -}}

{{/* The operator's account, as the subject of a binding. */}}
{{- define "green-training.subject" -}}
- kind: ServiceAccount
  name: {{ include "green-training.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
