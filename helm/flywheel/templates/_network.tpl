{{/* What pods may reach: names, the services, and the ports of the outside parts. */}}
{{- define "flywheel.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- with concat .Values.networkPolicy.egressPorts (list .Values.recommender.port .Values.collector.port) }}
- ports:
    {{- range . | uniq }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- if eq .Values.spark.mode "operator" }}
# A driver asks the API server for executors; where policies hold behind its service, at its own port.
- ports:
    - {port: 6443, protocol: TCP}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
