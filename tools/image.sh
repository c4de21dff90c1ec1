#!/bin/sh
# Builds the image with docker, podman or buildah, whichever works here:
# image.sh [--pinned] [--base IMAGE] [--tag NAME:TAG] [-- FLAGS OF THE BUILDER]
# With --pinned, a base that is not named by its digest is refused: a tag may be another image tomorrow.
# podman and buildah leave out the HEALTHCHECK, which the OCI format does not have; to keep it, add -- --format docker.
# The same commit and base give the same files: times are those of the commit, and packages are pinned by hashes.
set -eu
cd "$(dirname "$0")/.."
base=python:3.11-slim-bookworm
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=localhost/sms-gateway:$version
pinned=
while [ $# -gt 0 ]; do
  case $1 in
    --pinned) pinned=yes; shift ;;
    --base) base=$2; shift 2 ;;
    --tag) tag=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "usage: image.sh [--pinned] [--base IMAGE] [--tag NAME:TAG] [-- FLAGS OF THE BUILDER]" >&2; exit 2 ;;
  esac
done
if ! printf '%s' "$base" | grep -Eq '@sha256:[0-9a-f]{64}$'; then
  echo "the base image $base is named by a tag, which may be another image tomorrow: give --base NAME@sha256:DIGEST" >&2
  test -z "$pinned" || exit 1
fi
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
set -- "$@" --build-arg "BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" \
  --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" --tag "$tag" .
if docker info >/dev/null 2>&1; then
  docker build "$@"
elif podman info >/dev/null 2>&1; then
  podman build --timestamp "$SOURCE_DATE_EPOCH" "$@"
elif command -v buildah >/dev/null; then
  buildah build --timestamp "$SOURCE_DATE_EPOCH" "$@"
else
  echo "none of docker, podman and buildah works here" >&2
  exit 1
fi
echo "$tag"
