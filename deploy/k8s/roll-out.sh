#!/bin/sh
# Installs or upgrades an overlay: roll-out.sh OVERLAY. Applies the stream, runs the set-up Job, and rolls the processes;
# waits until all of them are available. With Argo CD, the sync-waves in the manifests do the same.
set -eu
overlay=${1:?usage: roll-out.sh OVERLAY, such as deploy/k8s/overlays/prod}
kubectl=${KUBECTL:-kubectl}
processes='gateway,dispatcher,coordinator,projector,rest'
component=app.kubernetes.io/component
manifests=$(mktemp)
trap 'rm -f "$manifests"' EXIT
$kubectl kustomize "$overlay" > "$manifests"
namespace=$(sed -n 's/^  namespace: //p' "$manifests" | head -n 1)

$kubectl apply -f "$manifests" -l "$component notin ($processes,setup)"
$kubectl --namespace "$namespace" rollout status --timeout=10m statefulset/nats
$kubectl --namespace "$namespace" delete job setup --ignore-not-found
$kubectl apply -f "$manifests" -l "$component=setup"
$kubectl --namespace "$namespace" wait --for=condition=complete --timeout=15m job/setup
$kubectl apply -f "$manifests"
for deployment in $($kubectl --namespace "$namespace" get deployments -l "$component in ($processes)" -o name); do
  $kubectl --namespace "$namespace" rollout status --timeout=20m "$deployment"
done
