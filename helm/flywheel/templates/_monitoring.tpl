{{/* Whether landing runs on in a pod of its own that answers /metrics, and audits; jobs and Spark applications do not. */}}
{{- define "flywheel.landingIsScraped" -}}
{{- and .Values.landing.enabled (eq .Values.landing.mode "streaming") (eq .Values.spark.mode "local") -}}
{{- end -}}
