{{/* The body of a CronJob's or Job's Job: the arguments of flywheel.podTemplate. */}}
{{- define "flywheel.jobSpec" -}}
backoffLimit: {{ .values.backoffLimit }}
activeDeadlineSeconds: {{ .values.activeDeadlineSeconds }}
ttlSecondsAfterFinished: {{ .values.ttlSecondsAfterFinished }}
{{- with .parallelism }}
# Every pod has its place among the processes of the training; one that fails ends them all, and the Job.
completionMode: Indexed
parallelism: {{ . }}
completions: {{ . }}
podReplacementPolicy: Failed
{{- end }}
template:
  {{- include "flywheel.podTemplate" (merge (dict "restartPolicy" "Never") .) | nindent 2 }}
{{- end -}}

{{/* A CronJob: the arguments of flywheel.podTemplate; its schedule and limits are in `values`. */}}
{{- define "flywheel.cronJob" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "flywheel.metadata" (dict "root" .root "component" .component) | nindent 2 }}
spec:
  schedule: {{ tpl .values.schedule .root | quote }}
  timeZone: Etc/UTC
  suspend: {{ .values.suspend }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {{ .values.startingDeadlineSeconds }}
  successfulJobsHistoryLimit: {{ .values.successfulJobsHistoryLimit }}
  failedJobsHistoryLimit: {{ .values.failedJobsHistoryLimit }}
  jobTemplate:
    metadata:
      labels:
        {{- include "flywheel.labels" (dict "root" .root "component" .component) | nindent 8 }}
    spec:
      {{- include "flywheel.jobSpec" . | nindent 6 }}
{{- end -}}

{{/* The spec of a SparkApplication: the arguments of flywheel.podTemplate. */}}
{{- define "flywheel.sparkSpec" -}}
{{- $spark := .root.Values.spark -}}
{{- $image := include "flywheel.image" (dict "root" .root "image" $spark.image) -}}
{{- /* Spark's own entry point runs in its pods, whatever a value says. */ -}}
{{- $pod := omit . "command" "args" "probes" "ports" -}}
{{- $_ := set $pod "values" (omit .values "command" "args") -}}
{{- $_ := set $pod "env" (append (.env | default list) (dict "name" "FLYWHEEL_LAKE__SPARK_MASTER" "value" "k8s://https://kubernetes.default.svc")) -}}
type: Python
pythonVersion: "3"
mode: cluster
sparkVersion: {{ $spark.version | quote }}
image: {{ $image }}
imagePullPolicy: {{ $spark.image.pullPolicy }}
mainApplicationFile: {{ $spark.mainApplicationFile }}
arguments: {{ toJson .args }}
sparkConf:
  {{- merge (dict) $spark.conf (dict "spark.driver.extraClassPath" $spark.jars "spark.executor.extraClassPath" $spark.jars) | toYaml | nindent 2 }}
driver:
  cores: {{ $spark.driver.cores }}
  memory: {{ $spark.driver.memory }}
  serviceAccount: {{ include "flywheel.componentName" (dict "root" .root "component" "spark") }}
  template:
    {{- include "flywheel.podTemplate" (merge (dict "containerName" "spark-kubernetes-driver" "token" true
      "serviceAccount" (include "flywheel.componentName" (dict "root" .root "component" "spark"))) $pod) | nindent 4 }}
executor:
  instances: {{ $spark.executor.instances }}
  cores: {{ $spark.executor.cores }}
  memory: {{ $spark.executor.memory }}
  template:
    {{- include "flywheel.podTemplate" (merge (dict "containerName" "spark-kubernetes-executor") $pod) | nindent 4 }}
{{- end -}}

{{/* A SparkApplication that runs on: the arguments of flywheel.podTemplate. */}}
{{- define "flywheel.sparkApplication" -}}
apiVersion: sparkoperator.k8s.io/v1beta2
kind: SparkApplication
metadata:
  {{- include "flywheel.metadata" (dict "root" .root "component" .component) | nindent 2 }}
spec:
  restartPolicy:
    type: Always
    onFailureRetryInterval: 10
  {{- include "flywheel.sparkSpec" . | nindent 2 }}
{{- end -}}

{{/* A ScheduledSparkApplication: the arguments of flywheel.podTemplate; its schedule is in `values`. */}}
{{- define "flywheel.scheduledSparkApplication" -}}
apiVersion: sparkoperator.k8s.io/v1beta2
kind: ScheduledSparkApplication
metadata:
  {{- include "flywheel.metadata" (dict "root" .root "component" .component) | nindent 2 }}
spec:
  schedule: {{ tpl .values.schedule .root | quote }}
  timeZone: Etc/UTC
  suspend: {{ .values.suspend }}
  concurrencyPolicy: Forbid
  successfulRunHistoryLimit: {{ .values.successfulJobsHistoryLimit }}
  failedRunHistoryLimit: {{ .values.failedJobsHistoryLimit }}
  template:
    restartPolicy:
      type: Never
    timeToLiveSeconds: {{ .values.ttlSecondsAfterFinished }}
    {{- include "flywheel.sparkSpec" . | nindent 4 }}
{{- end -}}
