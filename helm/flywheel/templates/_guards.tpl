{{- define "flywheel.guards" -}}
{{- include "flywheel.guardPlaces" . -}}
{{- include "flywheel.guardSecrets" . -}}
{{- include "flywheel.guardCollector" . -}}
{{- include "flywheel.guardScaling" (dict "name" "recommender" "values" .Values.recommender "settings" .Values.settings) -}}
{{- include "flywheel.guardScaling" (dict "name" "collector" "values" .Values.collector "settings" .Values.settings) -}}
{{- include "flywheel.guardScaling" (dict "name" "updater" "values" .Values.updater "settings" .Values.settings) -}}
{{- include "flywheel.guardUpdater" . -}}
{{- include "flywheel.guardMemory" . -}}
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
{{- $wanted := ternary (list "jdbc:postgresql://") (list "http://" "https://") (eq $settings.lake.catalog "jdbc") -}}
{{- if not (regexMatch (printf "^(%s)" (join "|" $wanted)) $settings.lake.uri) -}}
{{- fail (printf "settings.lake.uri is %s, and settings.lake.catalog is %s: name the catalogue's address, which begins with %s" $settings.lake.uri $settings.lake.catalog (join " or " $wanted)) -}}
{{- end -}}
{{- if regexMatch "(password=|//[^/@]*:[^/@]*@)" $settings.lake.uri -}}
{{- fail "settings.lake.uri holds a password, which everybody would read in the ConfigMap: put it into a Secret and name that by secrets.lake.catalog_password" -}}
{{- end -}}
{{- if hasKey (.Values.objectStore.env | default dict) "AWS_SECRET_ACCESS_KEY" -}}
{{- fail "objectStore.env.AWS_SECRET_ACCESS_KEY would be readable in every pod's specification: put it into a Secret and name that by objectStore.secret" -}}
{{- end -}}
{{- range $path, $value := dict "lake.warehouse" $settings.lake.warehouse "store.registry" $settings.store.registry "model.artifacts" $settings.model.artifacts -}}
{{- if not (hasPrefix "s3://" ($value | default "")) -}}
{{- $local := or (not (contains "://" ($value | default ""))) (hasPrefix "file:" ($value | default "")) -}}
{{- fail (printf "settings.%s is %s, and the release has several pods, whose images speak S3: set it to an address in an object store, such as s3://bucket/%s" $path (ternary "empty" (ternary (printf "the local path %s" $value) $value $local) (empty $value)) (base $path)) -}}
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
{{- if and $mechanism (not (hasPrefix "SASL" $protocol)) -}}
{{- fail (printf "settings.kafka.sasl_mechanism is %s, and settings.kafka.security_protocol is %s: set the protocol to SASL_SSL or SASL_PLAINTEXT" $mechanism $protocol) -}}
{{- end -}}
{{- if and (hasPrefix "SASL" $protocol) (has $mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512" "OAUTHBEARER")) (not .Values.secrets.kafka.sasl_password.secret) -}}
{{- fail (printf "secrets.kafka.sasl_password.secret is empty, and settings.kafka.sasl_mechanism is %s: name the Secret that holds the password" $mechanism) -}}
{{- end -}}
{{- if and (has $mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512" "OAUTHBEARER")) (not .Values.settings.kafka.sasl_username) -}}
{{- fail (printf "settings.kafka.sasl_username is empty, and settings.kafka.sasl_mechanism is %s: set the user" $mechanism) -}}
{{- end -}}
{{- if and (eq $mechanism "OAUTHBEARER") (not .Values.settings.kafka.sasl_token_url) -}}
{{- fail "settings.kafka.sasl_token_url is empty, and settings.kafka.sasl_mechanism is OAUTHBEARER: set the address that gives tokens" -}}
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
{{- $size := include "flywheel.mebibytes" .spool.size -}}
{{- $workers := int ($.Values.settings.serving.collector_workers | default 1) -}}
{{- if and .enabled .spool.enabled $size (lt (int $size) (mul 2 $workers (int ($.Values.settings.serving.event_spool_mb | default 256)))) -}}
{{- fail (printf "collector.spool.size is %s, and two spools of settings.serving.event_spool_mb, %v MB, for each of settings.serving.collector_workers, %d, must find room in it: raise it" .spool.size ($.Values.settings.serving.event_spool_mb | default 256) $workers) -}}
{{- end -}}
{{- if and .enabled .spool.enabled .hpa.enabled (ne (dig "scaleDown" "selectPolicy" "Disabled" (.hpa.behavior | default dict)) "Disabled") -}}
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
{{- if and .enabled (not .triggers) $kafka.ssl_certfile -}}
{{- fail "updater.keda.triggers is empty, and settings.kafka.ssl_certfile is set: the chart makes no trigger with a client's certificate, so name one" -}}
{{- end -}}
{{- if and .enabled (not .triggers) (hasPrefix "SASL" ($kafka.security_protocol | default "")) (not .saslUsername.secret) -}}
{{- fail "updater.keda.saslUsername.secret is empty, and KEDA asks Kafka with SASL: name the Secret that holds the user" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Mebibytes of a quantity or of Java's notation; empty for what is written in another way. */}}
{{- define "flywheel.mebibytes" -}}
{{- $number := regexFind "^[0-9]+" (toString .) | int -}}
{{- $unit := regexReplaceAll "^[0-9]+" (toString .) "" -}}
{{- if has $unit (list "Gi" "g") }}{{ mul $number 1024 }}{{ else if has $unit (list "Mi" "m") }}{{ $number }}{{ end -}}
{{- end -}}

{{/* Spark's JVM takes its heap, and half a gigabyte beside it at least, of what the container may have. */}}
{{- define "flywheel.guardMemory" -}}
{{- $heap := include "flywheel.mebibytes" (.Values.settings.lake.driver_memory | default "1g") -}}
{{- $places := dict "landing" .Values.landing.resources "setup" .Values.setup.resources -}}
{{- range $name := list "buildFeatures" "materialise" "maintain" "audit" "erase" -}}
{{- $own := index $.Values.jobs $name -}}
{{- $_ := set $places (ternary (printf "jobs.%s" $name) "jobs.common" (hasKey $own "resources")) ($own.resources | default $.Values.jobs.common.resources) -}}
{{- end -}}
{{- range $place, $resources := $places -}}
{{- $limit := include "flywheel.mebibytes" (dig "limits" "memory" "" ($resources | default dict)) -}}
{{- if and $heap $limit (eq $.Values.spark.mode "local") (lt (int $limit) (add (int $heap) 1024)) -}}
{{- fail (printf "%s.resources.limits.memory is %s, and Spark's heap in it may take settings.lake.driver_memory, %s: give the pod 1Gi more than that" $place $resources.limits.memory ($.Values.settings.lake.driver_memory | default "1g")) -}}
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
{{- if and .Values.jobs.backup.enabled (not (hasPrefix "s3://" .Values.jobs.backup.target)) -}}
{{- fail (printf "jobs.backup.target is %s, and the images speak S3 alone, while a local path ends with its pod: set it to an address in an object store, such as s3://bucket/backups" .Values.jobs.backup.target) -}}
{{- end -}}
{{- if and (eq .Values.spark.mode "operator") (not .Values.spark.image.repository) -}}
{{- fail "spark.image.repository is empty, and spark.mode is operator: name an image with Spark's own entry point and Flywheel" -}}
{{- end -}}
{{- end -}}

{{- define "flywheel.guardOutside" -}}
{{- if and .Values.monitoring.rules.enabled (not .Values.monitoring.scrape.enabled) -}}
{{- fail "monitoring.rules.enabled is true while monitoring.scrape.enabled is false: the alerts know the series by the names that the monitors give them, so enable both" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.gateway.enabled -}}
{{- fail "ingress.enabled and gateway.enabled are both true: choose one way in" -}}
{{- end -}}
{{- if and .Values.tests.enabled (not (and .Values.recommender.enabled .Values.collector.enabled)) -}}
{{- fail "tests.enabled is true, and the test asks both services, of which one is off: enable both, or set tests.enabled=false" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.parentRefs is empty: name the Gateway that takes the routes" -}}
{{- end -}}
{{- range $way := list "ingress" "gateway" -}}
{{- $values := index $.Values $way -}}
{{- $hosts := list -}}
{{- range $component := list "recommender" "collector" -}}
{{- if (index $.Values $component).enabled -}}
{{- $hosts = concat $hosts (index $values $component | default list | toStrings | compact) -}}
{{- end -}}
{{- end -}}
{{- if and $values.enabled (not $hosts) -}}
{{- fail (printf "%s.enabled is true, and no service that is enabled has a host: give one to %s.recommender or %s.collector" $way $way $way) -}}
{{- end -}}
{{- if and $values.enabled (ne (len $hosts) (len (uniq $hosts))) -}}
{{- fail (printf "%s.recommender and %s.collector share a host, and both take what is below /v1 there: give each a host of its own" $way $way) -}}
{{- end -}}
{{- end -}}
{{- end -}}
