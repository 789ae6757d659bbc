{{/*
The values of a component's pods, as YAML: `defaults` with what `COMPONENT.pod` says instead, key by key.
(dict "root" $ "values" .Values.COMPONENT)
*/}}
{{- define "flywheel.podValues" -}}
{{- $pod := deepCopy .root.Values.defaults -}}
{{- range $key, $value := .values.pod -}}
{{- $_ := set $pod $key $value -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end -}}

{{/*
A pod's template without its outer key:
  root, component, values  – as elsewhere; values.resources are the container's
  image                    – one of .Values.images; values.image wins over it key by key
  command, args            – of the container
  ports                    – (dict NAME NUMBER)
  probes                   – (dict "startupProbe" MAP …)
  env                      – more entries
  volumes, mounts          – more of them
  restartPolicy, grace     – of the pod; preStop seconds to sleep before SIGTERM
  inline                   – whether settings are written into the pod instead of read from the ConfigMap
  keys                     – whether the API keys and the surfaces are mounted
  annotations, subdomain, serviceAccount and whether its token is mounted, containerName
*/}}
{{- define "flywheel.podTemplate" -}}
{{- $root := .root -}}
{{- $pod := include "flywheel.podValues" . | fromYaml -}}
metadata:
  labels:
    {{- include "flywheel.labels" . | nindent 4 }}
    {{- with $pod.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $annotations := merge (dict) (.annotations | default dict) $pod.podAnnotations $root.Values.commonAnnotations }}
  {{- if not .inline }}
  {{- /* Settings are read when a process starts; surfaces and keys are read again by themselves. */}}
  {{- $_ := set $annotations "checksum/settings" (include "flywheel.config" $root | sha256sum) }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "flywheel.podSpec" . | nindent 2 }}
{{- end -}}

{{- define "flywheel.podSpec" -}}
{{- $root := .root -}}
{{- $pod := include "flywheel.podValues" . | fromYaml -}}
{{- if .inline }}
serviceAccountName: {{ $root.Values.setup.serviceAccountName }}
{{- else }}
serviceAccountName: {{ .serviceAccount | default (include "flywheel.serviceAccountName" $root) }}
{{- end }}
automountServiceAccountToken: {{ .token | default false }}
# Service links would put FLYWHEEL_… variables into the pod that no setting claims, which stops a process.
enableServiceLinks: false
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
{{- with .grace }}
terminationGracePeriodSeconds: {{ . }}
{{- end }}
{{- with .subdomain }}
subdomain: {{ . }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $pod.podSecurityContext | nindent 2 }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (dict "labelSelector" (dict "matchLabels" (include "flywheel.selectorLabels" $ | fromYaml))) . | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- with $pod.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - {{ include "flywheel.container" . | nindent 4 | trim }}
  {{- with (ternary list $pod.sidecars (eq (.restartPolicy | default "") "Never")) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- include "flywheel.volumes" . | nindent 2 }}
{{- end -}}

{{- define "flywheel.container" -}}
{{- $root := .root -}}
{{- $pod := include "flywheel.podValues" . | fromYaml -}}
{{- $own := .values.image | default dict -}}
{{- $shared := index $root.Values.images .image -}}
{{- if or $own.repository $own.tag -}}
{{- /* A digest is that of one image. */ -}}
{{- $shared = omit $shared "digest" -}}
{{- end -}}
{{- $image := merge (dict) $own $shared -}}
name: {{ .containerName | default .component }}
image: {{ include "flywheel.image" (dict "root" $root "image" $image) }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- with (.values.command | default .command) }}
command: {{ toJson . }}
{{- end }}
{{- with (.values.args | default .args) }}
args: {{ toJson . }}
{{- end }}
{{- with .values.workingDir }}
workingDir: {{ . }}
{{- end }}
{{- with .ports }}
ports:
  {{- range $name, $number := . }}
  - name: {{ $name }}
    containerPort: {{ $number }}
    protocol: TCP
  {{- end }}
{{- end }}
envFrom:
  {{- if not .inline }}
  - configMapRef:
      name: {{ include "flywheel.componentName" (dict "root" $root "component" "settings") }}
  {{- end }}
  {{- with $root.Values.objectStore.secret }}
  - secretRef:
      name: {{ . }}
  {{- end }}
  {{- with $pod.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- if .inline }}
  {{- range $name, $value := (include "flywheel.config" $root | fromYaml) }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- end }}
  - name: BENTOML_HOME
    value: {{ include "flywheel.home" $root }}/bentoml
  - name: HOME
    value: /tmp
  {{- with include "flywheel.secretEnv" (dict "tree" $root.Values.secrets "prefix" "FLYWHEEL_") }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- range $name, $value := $root.Values.objectStore.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $pod.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .probes }}
{{ toYaml . }}
{{- end }}
{{- with .preStop }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
resources:
  {{- toYaml (.resources | default .values.resources) | nindent 2 }}
securityContext:
  {{- toYaml $pod.containerSecurityContext | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: home
    mountPath: {{ include "flywheel.home" $root }}
  {{- if .keys }}
  - name: keys
    mountPath: {{ include "flywheel.mounts" $root }}/keys
    readOnly: true
  {{- if $root.Values.surfaces }}
  - name: surfaces
    mountPath: {{ include "flywheel.mounts" $root }}/surfaces
    readOnly: true
  {{- end }}
  {{- end }}
  {{- if $root.Values.kafkaCa.secret }}
  - name: kafka-ca
    mountPath: {{ include "flywheel.mounts" $root }}/kafka-ca
    readOnly: true
  {{- end }}
  {{- with .mounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $pod.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "flywheel.volumes" -}}
{{- $root := .root -}}
{{- $pod := include "flywheel.podValues" . | fromYaml -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ $pod.tmpSize }}
- name: home
  emptyDir:
    sizeLimit: {{ $pod.homeSize }}
{{- if .keys }}
- name: keys
  secret:
    secretName: {{ $root.Values.apiKeys.secret }}
{{- if $root.Values.surfaces }}
- name: surfaces
  configMap:
    name: {{ include "flywheel.componentName" (dict "root" $root "component" "surfaces") }}
{{- end }}
{{- end }}
{{- with $root.Values.kafkaCa.secret }}
- name: kafka-ca
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- with $pod.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Probes of a service on its port `http`, from .Values.COMPONENT.probes. */}}
{{- define "flywheel.httpProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml .startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml .liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  {{- toYaml .readiness | nindent 2 }}
{{- end -}}

{{/* Probes of a consumer on its port `metrics`: nobody asks it anything, so it is ready when it is alive. */}}
{{- define "flywheel.consumerProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml .startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  {{- toYaml .liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /metrics, port: metrics}
  {{- toYaml .readiness | nindent 2 }}
{{- end -}}
