"""Rendered manifests and how to look at them."""

import importlib.metadata
import pathlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import yaml

K8S = pathlib.Path(__file__).parents[2] / "deploy" / "k8s"
KUBECTL = pathlib.Path(sys.executable).parent / "kubectl"
WORKLOADS = ("Deployment", "StatefulSet", "Job")
PROVIDER = "sms-gateway/provider"
COMPONENT = "app.kubernetes.io/component"

Object = dict[str, Any]


def rendered(folder: pathlib.Path) -> list[Object]:
    """What kustomize makes of an overlay."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@attrs.frozen
class Rendered:
    """One overlay's objects, and its providers file."""

    objects: list[Object]
    providers_toml: str

    def of(self, *kinds: str) -> Iterator[Object]:
        return (one for one in self.objects if one["kind"] in kinds)

    def one(self, kind: str, name: str) -> Object:
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    def workloads(self) -> Iterator[Object]:
        return self.of(*WORKLOADS)

    def ours(self) -> Iterator[tuple[Object, Object]]:
        """Every container of our image with its workload."""
        return ((one, box) for one in self.workloads() for box in containers(one) if "/sms-gateway:" in box["image"])

    def providers(self) -> list[dict[str, Any]]:
        tables: list[dict[str, Any]] = tomllib.loads(self.providers_toml)["provider"]
        return tables

    def settings(self) -> dict[str, str]:
        (found,) = [one for one in self.of("ConfigMap") if one["metadata"]["name"].startswith("settings-")]
        return dict(found["data"])

    def pods(self) -> list[Mapping[str, str]]:
        """The labels of every pod."""
        return [pod(one)["metadata"]["labels"] for one in self.workloads()]


def name_of(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def pod(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]
    return found


def containers(workload: Object) -> list[Object]:
    spec = pod(workload)["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(box: Object, settings: Mapping[str, str]) -> dict[str, str]:
    """What a container sees, without what is read from fields."""
    seen = dict(settings) if box.get("envFrom") else {}
    return seen | {one["name"]: one["value"] for one in box.get("env", []) if "value" in one}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector holds for labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def strings(value: Any) -> Iterator[str]:
    """Every string anywhere inside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def version() -> str:
    return importlib.metadata.version("sms-gateway")
