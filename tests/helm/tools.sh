#!/usr/bin/env bash
# Builds the Go programs that the chart's tests use, each once, into a folder of the user's cache; prints that folder.
# Usage: tools.sh [static|cluster|all]    static: helm and the checkers; cluster: a Kubernetes API server
# Needs Go. The CPU seconds of each build are printed on standard error.
set -euo pipefail

HELM=4.3.1
KUBECONFORM=0.8.0
KUBE_SCORE=1.20.0
HELM_DOCS=1.14.2
HELM_UNITTEST=1.1.2
KUBERNETES=1.37.2

tools="${XDG_CACHE_HOME:-$HOME/.cache}/flywheel/tools"
jobs="${CHART_TOOLS_JOBS:-1}"
work="$tools/.work"
mkdir -p "$tools" "$work"
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false

# Builds one program under its versioned name unless it is there: NAME-VERSION, then a function and its arguments.
once() {
  local name="$1" before
  shift
  [[ -x "$tools/$name" ]] && return
  echo "building $name" >&2
  before=$(cpu_seconds)
  "$@" "$work/$name" >&2
  mv "$work/$name" "$tools/$name"
  echo "built $name in $(($(cpu_seconds) - before)) CPU seconds" >&2
}

# User and system seconds of all programs that this shell has waited for.
cpu_seconds() {
  local ticks
  read -r -a ticks <"/proc/$$/stat"
  echo $(((ticks[15] + ticks[16]) / $(getconf CLK_TCK)))
}

# A published program: PACKAGE@VERSION.
published() {
  GOBIN="$work/bin" go install -p "$jobs" -trimpath -ldflags='-s -w' "$1"
  mv "$work/bin/$(basename "${1%@*}")" "$2"
}

# A program of a module that replaces others: MODULE-FOLDER PACKAGE LDFLAGS.
of_module() {
  (cd "$1" && go build -p "$jobs" -trimpath -ldflags="-s -w $3" -o "$4" "$2")
}

# helm-unittest replaces a module, which `go install` refuses.
helm_unittest() {
  local module="$work/helm-unittest-module"
  mkdir -p "$module"
  cat >"$module/go.mod" <<MOD
module tools
go 1.26
require github.com/helm-unittest/helm-unittest v$HELM_UNITTEST
replace github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0
MOD
  printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"\n' >"$module/tools.go"
  (cd "$module" && go mod tidy -e)
  of_module "$module" github.com/helm-unittest/helm-unittest/cmd/helm-unittest "" "$1"
}

# One module for the control plane: k8s.io/kubernetes asks for its parts at v0.0.0.
kubernetes_module() {
  local module="$work/kubernetes-module" parts
  [[ -f "$module/ready" ]] && return
  mkdir -p "$module"
  parts=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  {
    printf 'module tools\ngo 1.26\nrequire k8s.io/kubernetes v%s\n' "$KUBERNETES"
    sed -n "s|^\s*\(k8s.io/[a-z-]*\) v0.0.0\$|replace \1 => \1 v0.${KUBERNETES#*.}|p" "$parts" | sort -u
  } >"$module/go.mod"
  cat >"$module/tools.go" <<'GO'
//go:build tools

package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
GO
  (cd "$module" && go mod tidy -e)
  touch "$module/ready"
}

control_plane() {
  local version="k8s.io/component-base/version"
  kubernetes_module
  of_module "$work/kubernetes-module" "$1" "-X $version.gitVersion=v$KUBERNETES \
    -X $version.gitMajor=${KUBERNETES%%.*} -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")" "$2"
}

static() {
  once "helm-$HELM" published "helm.sh/helm/v4/cmd/helm@v$HELM"
  once "kubeconform-$KUBECONFORM" published "github.com/yannh/kubeconform/cmd/kubeconform@v$KUBECONFORM"
  once "helm-docs-$HELM_DOCS" published "github.com/norwoodj/helm-docs/cmd/helm-docs@v$HELM_DOCS"
  once "kube-score-$KUBE_SCORE" published "github.com/zegl/kube-score/cmd/kube-score@v$KUBE_SCORE"
  once "helm-unittest-$HELM_UNITTEST" helm_unittest
}

cluster() {
  once "etcd-$KUBERNETES" control_plane go.etcd.io/etcd/server/v3
  once "kube-apiserver-$KUBERNETES" control_plane k8s.io/kubernetes/cmd/kube-apiserver
  once "kube-controller-manager-$KUBERNETES" control_plane k8s.io/kubernetes/cmd/kube-controller-manager
}

case "${1:-all}" in
  static) static ;;
  cluster) cluster ;;
  all) static && cluster ;;
  *) echo "usage: $0 [static|cluster|all]" >&2 && exit 2 ;;
esac
echo "$tools"
