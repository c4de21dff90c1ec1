"""The manifests as they are rendered: both overlays, and prod once more with the optional component."""

import pathlib
import shutil
from functools import cache

import pytest
from rendering import K8S, Rendered, rendered

OVERLAYS = ("dev", "prod", "prod with keda")


@cache
def _rendered(name: str, folder: pathlib.Path) -> Rendered:
    if name != "prod with keda":
        return Rendered(rendered(K8S / "overlays" / name), (K8S / "overlays" / name / "providers.toml").read_text())
    copy = folder / "k8s"
    shutil.copytree(K8S, copy)
    path = copy / "overlays" / "prod" / "kustomization.yaml"
    path.write_text(path.read_text().replace("  # - keda ", "  - keda #"))
    return Rendered(rendered(path.parent), (path.parent / "providers.toml").read_text())


@pytest.fixture(scope="session", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("k8s") if request.param == "prod with keda" else pathlib.Path()
    return _rendered(request.param, folder)
