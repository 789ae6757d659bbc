{{/* The Service of an HTTP component: (dict "root" $ "component" NAME "values" VALUES). */}}
{{- define "flywheel.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "flywheel.metadata" (dict "root" .root "component" .component "annotations" .values.service.annotations) | nindent 2 }}
spec:
  type: {{ .values.service.type }}
  selector:
    {{- include "flywheel.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .values.service.port }}
      targetPort: http
      protocol: TCP
      appProtocol: http
{{- end -}}

{{/* The most replicas that a component can have, by its values. */}}
{{- define "flywheel.mostReplicas" -}}
{{- if .hpa.enabled -}}{{ .hpa.maxReplicas }}
{{- else if .keda.enabled -}}{{ .keda.maxReplicas }}
{{- else -}}{{ .replicas }}
{{- end -}}
{{- end -}}

{{/* The fewest replicas that a component can have, by its values. */}}
{{- define "flywheel.fewestReplicas" -}}
{{- if .hpa.enabled -}}{{ .hpa.minReplicas }}
{{- else if .keda.enabled -}}{{ .keda.minReplicas }}
{{- else -}}{{ .replicas }}
{{- end -}}
{{- end -}}

{{/* Autoscaler and disruption budget of a component: (dict "root" $ "component" NAME "kind" KIND "values" VALUES). */}}
{{- define "flywheel.scaling" -}}
{{- with .values }}
{{- if and .enabled .hpa.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "flywheel.metadata" $ | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ $.kind }}
    name: {{ include "flywheel.componentName" $ }}
  minReplicas: {{ .hpa.minReplicas }}
  maxReplicas: {{ .hpa.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .hpa.cpuPercent }}}
    {{- with .hpa.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .hpa.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if and .enabled .keda.enabled }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "flywheel.metadata" $ | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ $.kind }}
    name: {{ include "flywheel.componentName" $ }}
  minReplicaCount: {{ .keda.minReplicas }}
  maxReplicaCount: {{ .keda.maxReplicas }}
  pollingInterval: {{ .keda.pollingSeconds }}
  cooldownPeriod: {{ .keda.cooldownSeconds }}
  {{- with .keda.advanced }}
  advanced:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  triggers:
    {{- with .keda.triggers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if and (eq $.component "updater") (not .keda.triggers) }}
    {{- include "flywheel.lagTrigger" $.root | nindent 4 }}
    {{- end }}
{{- end }}
{{- if and .enabled .pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "flywheel.metadata" $ | nindent 2 }}
spec:
  maxUnavailable: {{ .pdb.maxUnavailable }}
  # A pod that is broken anyway does not hold up a node's drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "flywheel.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}
