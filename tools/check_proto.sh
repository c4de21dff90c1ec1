#!/bin/sh
# Checks that the protos are formatted and linted, that generated code and reference are current, and that nothing is
# a breaking change: against the last release, if there is one, and against the previous commit.
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
# As one image each, because a file may move from one module to another. What is vendored follows its own rules.
rules='{"version": "v2", "breaking": {"use": ["FILE"], "ignore": ["google", "buf"]}}'
buf build -o "$scratch/new.binpb"
for base in $(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) HEAD~1; do
  if git cat-file -e "$base:buf.yaml" 2>/dev/null; then
    buf build ".git#ref=$(git rev-parse "$base^{commit}")" -o "$scratch/old.binpb"
    buf breaking "$scratch/new.binpb" --against "$scratch/old.binpb" --config "$rules"
  fi
done
