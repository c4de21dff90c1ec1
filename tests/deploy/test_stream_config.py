"""The nats-server reads the configuration that the manifests give it, alone and as one of three."""

import pathlib
import subprocess

import pytest
from rendering import Rendered, containers

from ops.embedded.nats import binary
from tests.secret_files import HAS_OPENSSL, laid_out


@pytest.mark.skipif(not HAS_OPENSSL, reason="certificates are made by the openssl command")
def test_the_server_understands_its_configuration(manifests: Rendered, tmp_path: pathlib.Path) -> None:
    laid_out(tmp_path)
    (files,) = [one["data"] for one in manifests.of("ConfigMap") if one["metadata"]["name"].startswith("nats-")]
    folder = tmp_path / "etc" / "nats"
    folder.mkdir(parents=True)
    for name, text in files.items():
        here = text.replace('"/run/', f'"{tmp_path}/run/').replace('"/data"', f'"{tmp_path}/data"')
        (folder / name).write_text(here)
    (box,) = [one for one in containers(manifests.one("StatefulSet", "nats")) if one["name"] == "nats"]
    assert box["command"] == ["nats-server", "--config", "/etc/nats/nats.conf"]
    command = [str(binary()), "--config", str(folder / "nats.conf"), "-t"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"POD_NAME": "nats-0"})
    assert done.returncode == 0, done.stderr
    assert "configuration file" in done.stdout + done.stderr
