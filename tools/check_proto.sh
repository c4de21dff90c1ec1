#!/bin/sh
# The protos are well formed and well told, the generated code and the reference are theirs, and nothing breaks what came before:
# the last release when there is one, and always the commit before this one.
set -eu
buf format -d --exit-code
buf lint
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
buf generate -o "$scratch"
if ! diff -r -q --exclude=__pycache__ "$scratch/gen" gen; then
  echo "gen/ is stale: run make proto" >&2
  exit 1
fi
python tools/reference.py "$scratch/api.md"
if ! cmp -s "$scratch/api.md" docs/api.md; then
  echo "docs/api.md is stale: run make proto" >&2
  exit 1
fi
buf build --exclude-source-info --as-file-descriptor-set -o "$scratch/api.binpb"
if ! cmp -s "$scratch/api.binpb" deploy/k8s/components/rest/api.binpb; then
  echo "deploy/k8s/components/rest/api.binpb is stale: run make proto" >&2
  exit 1
fi
for base in $(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) HEAD~1; do
  if git cat-file -e "$base:buf.yaml" 2>/dev/null; then
    buf breaking --against ".git#ref=$(git rev-parse "$base^{commit}")"
  fi
done
