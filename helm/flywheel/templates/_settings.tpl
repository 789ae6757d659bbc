{{/* Where pods keep what they write, and where files are mounted. */}}
{{- define "flywheel.home" -}}/var/lib/flywheel{{- end -}}
{{- define "flywheel.spool" -}}/var/spool/flywheel{{- end -}}
{{- define "flywheel.mounts" -}}/etc/flywheel{{- end -}}

{{/*
The variables of a tree of settings, as a YAML map: (dict "tree" TREE "prefix" "FLYWHEEL_").
What is null is left to the application's default. Maps that are one setting are written as JSON, as lists are.
*/}}
{{- define "flywheel.variables" -}}
{{- $maps := list "FLYWHEEL_SERVING__TASK_WEIGHTS" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .tree -}}
{{- $name := printf "%s%s" $prefix (upper $key) -}}
{{- if and (kindIs "map" $value) (not (has $name $maps)) -}}
{{- include "flywheel.variables" (dict "tree" $value "prefix" (printf "%s__" $name)) -}}
{{- else if kindIs "string" $value -}}
{{ $name }}: {{ $value | quote }}
{{ else if not (kindIs "invalid" $value) -}}
{{ $name }}: {{ $value | toJson | quote }}
{{ end -}}
{{- end -}}
{{- end -}}

{{/* All settings that pods share, as a YAML map: from the values, and those that the chart decides. */}}
{{- define "flywheel.config" -}}
{{- include "flywheel.variables" (dict "tree" .Values.settings "prefix" "FLYWHEEL_") -}}
FLYWHEEL_HOME: {{ include "flywheel.home" . | quote }}
FLYWHEEL_SERVING__HOST: {{ .Values.listenAddress | quote }}
FLYWHEEL_SERVING__RECOMMENDER_PORT: {{ .Values.recommender.port | quote }}
FLYWHEEL_SERVING__COLLECTOR_PORT: {{ .Values.collector.port | quote }}
FLYWHEEL_SERVING__METRICS_PORT: {{ .Values.metricsPort | quote }}
FLYWHEEL_SERVING__API_KEYS_FILE: {{ printf "%s/keys/%s" (include "flywheel.mounts" .) .Values.apiKeys.key | quote }}
{{- if .Values.kafkaCa.secret }}
FLYWHEEL_KAFKA__SSL_CAFILE: {{ printf "%s/kafka-ca/%s" (include "flywheel.mounts" .) .Values.kafkaCa.key | quote }}
{{- end }}
{{- if .Values.surfaces }}
FLYWHEEL_SERVING__SURFACES_FILE: {{ printf "%s/surfaces/surfaces.yaml" (include "flywheel.mounts" .) | quote }}
{{- end }}
{{- end -}}

{{/* The secret settings as a list of env entries, by reference: (dict "tree" .Values.secrets "prefix" "FLYWHEEL_"). */}}
{{- define "flywheel.secretEnv" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .tree -}}
{{- $name := printf "%s%s" $prefix (upper $key) -}}
{{- if hasKey $value "key" -}}
{{- if $value.secret -}}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $value.secret }}
      key: {{ $value.key }}
{{ end -}}
{{- else -}}
{{- include "flywheel.secretEnv" (dict "tree" $value "prefix" (printf "%s__" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
