#!/bin/sh
# The protos are well formed and well told, the generated code is theirs, and nothing breaks what main has.
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
if base=$(git rev-parse -q --verify 'refs/remotes/origin/main' || git rev-parse -q --verify 'HEAD~1') &&
  git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  buf breaking --against ".git#ref=$base"
else
  echo "buf breaking: nothing landed before to compare with"
fi
