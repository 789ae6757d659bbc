#!/bin/sh
# Build the two services as Bentos into BentoML's store; `bentoml containerize flywheel-recommender:latest` makes an image.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p dist
helm/images/requirements.sh services > dist/services.txt
for service in recommender collector; do
  BENTOML_DO_NOT_TRACK=True uv run --no-sync bentoml build --bentofile "helm/images/$service.bentofile.yaml" "$@" .
done
