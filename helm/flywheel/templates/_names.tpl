{{/* The chart's name, as it stands in labels. */}}
{{- define "flywheel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The prefix of every object's name: a DNS label of at most 34 characters, since a CronJob's name may have 52 and its
pods' host names 63; of 28 where the Spark operator makes names of 20 characters more of a schedule's. What had to be
changed for that ends in a digest, so that two release names stay apart.
*/}}
{{- define "flywheel.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
  {{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $most := ternary 28 34 (eq .Values.spark.mode "operator") -}}
{{- if regexMatch (printf "^[a-z]([-a-z0-9]{0,%d}[a-z0-9])?$" (sub $most 2)) $full -}}
  {{- $full -}}
{{- else -}}
  {{- $label := regexReplaceAll "[^a-z0-9-]" $full "-" -}}
  {{- $label = ternary $label (printf "r-%s" $label) (regexMatch "^[a-z]" $label) -}}
  {{- printf "%s-%s" ($label | trunc (sub $most 9 | int) | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The name of a component's objects: (dict "root" $ "component" NAME). */}}
{{- define "flywheel.componentName" -}}
{{- printf "%s-%s" (include "flywheel.fullname" .root) .component -}}
{{- end -}}

{{/* What selects a component's pods, and never changes: (dict "root" $ "component" NAME). */}}
{{- define "flywheel.selectorLabels" -}}
app.kubernetes.io/name: {{ include "flywheel.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* All labels of an object: (dict "root" $ "component" NAME); without a component for what all share. */}}
{{- define "flywheel.labels" -}}
{{ include "flywheel.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: flywheel
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object: (dict "root" $ "component" NAME), "name" instead of the component's, more "labels", "annotations". */}}
{{- define "flywheel.metadata" -}}
name: {{ .name | default (include "flywheel.componentName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "flywheel.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The service account's name. */}}
{{- define "flywheel.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "flywheel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image's reference: (dict "root" $ "image" VALUES); its digest wins over its tag, which is the chart's version. */}}
{{- define "flywheel.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}
