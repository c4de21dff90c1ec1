"""The custom resource definitions of the operators that our manifests use, generated from the operators' Go types."""

import pathlib

import yaml

from tools.k8s_cluster.build import CONTROLLER_GEN, find, prepare
from tools.k8s_cluster.commands import run, say, wait
from tools.k8s_cluster.plane import Plane

_TYPES = {
    "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1": (
        "monitoring.coreos.com_servicemonitors.yaml",
        "monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2/apis/keda/v1alpha1": ("keda.sh_scaledobjects.yaml",),
}


def install(plane: Plane) -> None:
    """Install the definitions of ServiceMonitor, PrometheusRule and ScaledObject."""
    folder = plane.folder / "crds"
    for types, files in _TYPES.items():
        words = ["crd", f"paths={types}", f"output:dir={folder}"]
        run(find("controller-gen"), *words, folder=prepare(CONTROLLER_GEN), GOFLAGS="-mod=mod")
        for name in files:
            _install(plane, folder / name)
    say("kinds of the operators: ServiceMonitor, PrometheusRule, ScaledObject")


def _install(plane: Plane, path: pathlib.Path) -> None:
    (one,) = yaml.safe_load_all(path.read_text())
    plane.apply(one)
    name = one["metadata"]["name"]
    words = ["wait", "--for=condition=established", "--timeout=10s", f"crd/{name}"]
    wait(name, lambda: bool(plane.kubectl(*words)), 60)
