{{/* What KEDA needs of secrets to ask Kafka for the lag, as a list. */}}
{{- define "flywheel.kedaAuth" -}}
{{- with .Values.secrets.kafka.sasl_password }}
{{- if .secret }}
- parameter: password
  name: {{ .secret }}
  key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.updater.keda.saslUsername }}
{{- if .secret }}
- parameter: username
  name: {{ .secret }}
  key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.kafkaCa }}
{{- if .secret }}
- parameter: ca
  name: {{ .secret }}
  key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "flywheel.lagTrigger" -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $namespace := .Values.settings.namespace | default "flywheel" -}}
{{- $protocol := $kafka.security_protocol | default "PLAINTEXT" -}}
- type: kafka
  metadata:
    bootstrapServers: {{ $kafka.bootstrap_servers | quote }}
    consumerGroup: {{ printf "%s.history" $namespace }}
    topic: {{ printf "%s.interactions" $namespace }}
    lagThreshold: {{ .Values.updater.keda.lagThreshold | quote }}
    # More pods than partitions would have nothing to do.
    allowIdleConsumers: "false"
    {{- if has $protocol (list "SSL" "SASL_SSL") }}
    tls: enable
    {{- end }}
    {{- if has $protocol (list "SASL_PLAINTEXT" "SASL_SSL") }}
    sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") ($kafka.sasl_mechanism | default "PLAIN") }}
    {{- end }}
  {{- if ne (include "flywheel.kedaAuth" .) "" }}
  authenticationRef:
    name: {{ include "flywheel.componentName" (dict "root" . "component" "updater") }}
  {{- end }}
{{- end -}}
