{{/* What pods may reach: names, and the ports of the outside parts. */}}
{{- define "flywheel.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- with .Values.networkPolicy.egressPorts }}
- ports:
    {{- range . }}
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
