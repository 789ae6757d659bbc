{{- define "flywheel.guards" -}}
{{- include "flywheel.guardPlaces" . -}}
{{- include "flywheel.guardSecrets" . -}}
{{- include "flywheel.guardCollector" . -}}
{{- include "flywheel.guardScaling" (dict "name" "recommender" "values" .Values.recommender "settings" .Values.settings) -}}
{{- include "flywheel.guardScaling" (dict "name" "collector" "values" .Values.collector "settings" .Values.settings) -}}
{{- include "flywheel.guardScaling" (dict "name" "updater" "values" .Values.updater "settings" .Values.settings) -}}
{{- include "flywheel.guardUpdater" . -}}
{{- include "flywheel.guardTraining" . -}}
{{- include "flywheel.guardOutside" . -}}
{{- end -}}

{{/* Several pods work on the same lake, registry and store: each must be an address that all of them reach. */}}
{{- define "flywheel.guardPlaces" -}}
{{- $settings := .Values.settings -}}
{{- if not $settings.kafka.bootstrap_servers -}}
{{- fail "settings.kafka.bootstrap_servers is empty: set it to the host:port list of the Kafka cluster" -}}
{{- end -}}
{{- if eq ($settings.lake.catalog | default "sqlite") "sqlite" -}}
{{- fail "settings.lake.catalog is sqlite, which serves one process on one disk, and the release has several pods: set it to rest, or to jdbc with PostgreSQL" -}}
{{- end -}}
{{- if not $settings.lake.uri -}}
{{- fail "settings.lake.uri is empty: set it to the catalogue's address, such as jdbc:postgresql://host/database" -}}
{{- end -}}
{{- if hasPrefix "jdbc:sqlite" $settings.lake.uri -}}
{{- fail "settings.lake.uri names SQLite, which serves one process on one disk: name a PostgreSQL database" -}}
{{- end -}}
{{- if not (contains "://" $settings.lake.uri) -}}
{{- fail (printf "settings.lake.uri is %s, which is no address: name the catalogue's, such as jdbc:postgresql://host/database" $settings.lake.uri) -}}
{{- end -}}
{{- range $path, $value := dict "lake.warehouse" $settings.lake.warehouse "store.registry" $settings.store.registry "model.artifacts" $settings.model.artifacts -}}
{{- if or (not (contains "://" ($value | default ""))) (hasPrefix "file:" ($value | default "")) -}}
{{- fail (printf "settings.%s is %s, and the release has several pods: set it to an address in an object store, such as s3://bucket/%s" $path (ternary "empty" (printf "the local path %s" $value) (empty $value)) (base $path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardSecrets" -}}
{{- if and (or .Values.recommender.enabled .Values.collector.enabled) (not .Values.apiKeys.secret) -}}
{{- fail "apiKeys.secret is empty: name the Secret with the key file that `flywheel add-key` writes; the services answer nobody beyond loopback without one" -}}
{{- end -}}
{{- if not .Values.secrets.store.redis_url.secret -}}
{{- fail "secrets.store.redis_url.secret is empty: name the Secret that holds the redis:// or rediss:// URL of the online store" -}}
{{- end -}}
{{- if not .Values.secrets.kafka.erasure_key.secret -}}
{{- fail "secrets.kafka.erasure_key.secret is empty: name the Secret that holds the key of the erasure ledger, one secret of at least 32 characters that you keep for good" -}}
{{- end -}}
{{- $protocol := .Values.settings.kafka.security_protocol | default "PLAINTEXT" -}}
{{- if and (hasPrefix "SASL" $protocol) (not .Values.settings.kafka.sasl_mechanism) -}}
{{- fail (printf "settings.kafka.sasl_mechanism is empty, and settings.kafka.security_protocol is %s: set the mechanism" $protocol) -}}
{{- end -}}
{{- $mechanism := .Values.settings.kafka.sasl_mechanism | default "" -}}
{{- if and (hasPrefix "SASL" $protocol) (has $mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512" "OAUTHBEARER")) (not .Values.secrets.kafka.sasl_password.secret) -}}
{{- fail (printf "secrets.kafka.sasl_password.secret is empty, and settings.kafka.sasl_mechanism is %s: name the Secret that holds the password" $mechanism) -}}
{{- end -}}
{{- range $path, $on := dict "monitoring.scrape" .Values.monitoring.scrape.enabled "tests" .Values.tests.enabled -}}
{{- $key := (ternary $.Values.tests $.Values.monitoring.scrape (eq $path "tests")).key -}}
{{- if and $on (not $key.secret) -}}
{{- fail (printf "%s.key.secret is empty: name the Secret that holds an API key for it, or set %s.enabled=false" $path $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardScaling" -}}
{{- if .values.enabled -}}
{{- if and .values.hpa.enabled .values.keda.enabled -}}
{{- fail (printf "%s.hpa.enabled and %s.keda.enabled are both true, and two autoscalers would fight over one workload: choose one" .name .name) -}}
{{- end -}}
{{- if and .values.pdb.enabled (lt (int (include "flywheel.fewestReplicas" .values)) 2) -}}
{{- fail (printf "%s.pdb.enabled is true with a single replica, which would either forbid to drain its node or protect nothing: set two or more replicas, or %s.pdb.enabled=false" .name .name) -}}
{{- end -}}
{{- if and .values.keda.enabled (ne .name "updater") (not .values.keda.triggers) -}}
{{- fail (printf "%s.keda.triggers is empty while %s.keda.enabled is true: only the updater scales by its lag without one" .name .name) -}}
{{- end -}}
{{- range $scaler := list "hpa" "keda" -}}
{{- $bounds := index $.values $scaler -}}
{{- if and $bounds.enabled (gt (int $bounds.minReplicas) (int $bounds.maxReplicas)) -}}
{{- fail (printf "%s.%s.minReplicas is more than %s.%s.maxReplicas: lower it" $.name $scaler $.name $scaler) -}}
{{- end -}}
{{- end -}}
{{- if hasKey .values "preStopSeconds" -}}
{{- $deadline := div (add (int (.settings.serving.request_deadline_ms | default 5000)) 999) 1000 -}}
{{- $needed := add (int .values.preStopSeconds) $deadline 10 -}}
{{- if lt (int .values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d, and the pod needs %d: preStopSeconds, the request deadline and 10 s to send what is queued" .name (int .values.terminationGracePeriodSeconds) (int $needed)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardCollector" -}}
{{- with .Values.collector -}}
{{- if and .enabled (not .spool.enabled) ($.Values.settings.serving.event_spool_mb) -}}
{{- fail "settings.serving.event_spool_mb is set, and collector.spool.enabled is false, so there is no volume for a spool: enable it, or unset the setting" -}}
{{- end -}}
{{- if and .enabled .spool.enabled .hpa.enabled (ne (dig "scaleDown" "selectPolicy" "" (.hpa.behavior | default dict)) "Disabled") -}}
{{- fail "collector.hpa.behavior.scaleDown.selectPolicy must be Disabled while collector.spool.enabled is true: a volume is drained after an upgrade only, so collectors are taken away by an upgrade too" -}}
{{- end -}}
{{- if and .enabled .spool.enabled .keda.enabled -}}
{{- fail "collector.keda.enabled is true while collector.spool.enabled is true: KEDA would take collectors away whose volumes nobody drains; use collector.hpa, or turn the spool off" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardUpdater" -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $partitions := int ($kafka.partitions | default 4) -}}
{{- if and .Values.updater.enabled (gt (int (include "flywheel.mostReplicas" .Values.updater)) $partitions) -}}
{{- fail (printf "updater may have %s replicas and settings.kafka.partitions is %d: more updaters than partitions have nothing to do" (include "flywheel.mostReplicas" .Values.updater) $partitions) -}}
{{- end -}}
{{- with .Values.updater.keda -}}
{{- if and .enabled (not .triggers) (has ($kafka.sasl_mechanism | default "") (list "OAUTHBEARER" "AWS_MSK_IAM")) -}}
{{- fail (printf "updater.keda.triggers is empty, and settings.kafka.sasl_mechanism is %s, for which the chart makes no trigger: name one" $kafka.sasl_mechanism) -}}
{{- end -}}
{{- if and .enabled (not .triggers) (hasPrefix "SASL" ($kafka.security_protocol | default "")) (not .saslUsername.secret) -}}
{{- fail "updater.keda.saslUsername.secret is empty, and KEDA asks Kafka with SASL: name the Secret that holds the user" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardTraining" -}}
{{- with .Values.train -}}
{{- if and .enabled (gt (int .pods) 1) (gt (int ($.Values.settings.model.checkpoint_steps | default 0)) 0) (not .checkpoints.claim) -}}
{{- fail "train.checkpoints.claim is empty, and train.pods is more than 1 with settings.model.checkpoint_steps set: name a ReadWriteMany volume claim that all pods share" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.jobs.backup.enabled (not .Values.jobs.backup.target) -}}
{{- fail "jobs.backup.target is empty: set it to where backups go, such as s3://bucket/backups" -}}
{{- end -}}
{{- if and .Values.jobs.backup.enabled (hasPrefix "file:" .Values.jobs.backup.target) -}}
{{- fail (printf "jobs.backup.target is the local path %s, which ends with its pod: set it to an address in an object store, such as s3://bucket/backups" .Values.jobs.backup.target) -}}
{{- end -}}
{{- if and (eq .Values.spark.mode "operator") (not .Values.spark.image.repository) -}}
{{- fail "spark.image.repository is empty, and spark.mode is operator: name an image with Spark's own entry point and Flywheel" -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardOutside" -}}
{{- if and .Values.ingress.enabled .Values.gateway.enabled -}}
{{- fail "ingress.enabled and gateway.enabled are both true: choose one way in" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.recommender) (not .Values.ingress.collector) -}}
{{- fail "ingress.recommender and ingress.collector are both empty: give a host to one of them" -}}
{{- end -}}
{{- if and .Values.tests.enabled (not (and .Values.recommender.enabled .Values.collector.enabled)) -}}
{{- fail "tests.enabled is true, and the test asks both services, of which one is off: enable both, or set tests.enabled=false" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.parentRefs is empty: name the Gateway that takes the routes" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.recommender) (not .Values.gateway.collector) -}}
{{- fail "gateway.recommender and gateway.collector are both empty: give a host to one of them" -}}
{{- end -}}
{{- end -}}
