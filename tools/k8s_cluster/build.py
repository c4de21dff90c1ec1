"""Builds the programs of a cluster from Go modules into var/tools, once; needs Go and half an hour on one core."""

import os
import pathlib
import re
import shutil

import attrs

from tools.k8s_cluster.commands import TOOLS, Failed, run, say

KUBERNETES = "v1.34.4"
"""The oldest minor version that deploy/k8s/README.md allows."""

OUR_MAINS = pathlib.Path(__file__).parent / "go"
_COMPONENT_BASE = "k8s.io/component-base/version"
_COLLECTOR = "go.opentelemetry.io/collector"


@attrs.frozen
class Tool:
    """A Go module with dependencies: `packages` maps the names of programs in var/tools to their packages.

    A package "." is our own main in the folder `go/NAME`. `required` maps modules to versions.
    """

    name: str
    required: dict[str, str]
    packages: dict[str, str]
    flags: str = "-s -w"


KUBE = Tool(
    "kube",
    {"k8s.io/kubernetes": KUBERNETES},
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    f"-s -w -X {_COMPONENT_BASE}.gitVersion={KUBERNETES} -X {_COMPONENT_BASE}.gitMajor=1 "
    f"-X {_COMPONENT_BASE}.gitMinor={KUBERNETES.split('.')[1]}",
)
ETCD = Tool("etcd", {"go.etcd.io/etcd/server/v3": "v3.6.16"}, {"etcd": "go.etcd.io/etcd/server/v3"})
KWOK = Tool("kwok", {"sigs.k8s.io/kwok": "v0.7.0"}, {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
COREDNS = Tool("coredns", {"github.com/coredns/coredns": "v1.14.7"}, {"coredns": "."})
PAUSE = Tool("pause", {}, {"pause": "."})
CONTROLLER_GEN = Tool(
    "crds",
    {
        "sigs.k8s.io/controller-tools": "v0.19.0",
        "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring": "v0.86.2",
        "github.com/kedacore/keda/v2": "v2.16.1",
    },
    {"controller-gen": "sigs.k8s.io/controller-tools/cmd/controller-gen"},
)
COLLECTOR = Tool(
    "otelcol",
    {
        "github.com/open-telemetry/opentelemetry-collector-contrib/extension/healthcheckextension": "v0.144.0",
        **{
            f"{_COLLECTOR}/{name}": "v0.144.0"
            for name in (
                *("otelcol", "exporter/otlpexporter", "receiver/otlpreceiver"),
                *("processor/batchprocessor", "processor/memorylimiterprocessor"),
            )
        },
        **{f"{_COLLECTOR}/confmap/provider/{name}": "v1.50.0" for name in ("envprovider", "fileprovider")},
    },
    {"otelcol": "."},
)
ALL = (KUBE, ETCD, KWOK, COREDNS, PAUSE, CONTROLLER_GEN, COLLECTOR)


def _go(folder: pathlib.Path, *words: str, within_s: float = 3600.0) -> str:
    return run(
        *("nice", "-n", "19", "go", *words),
        folder=folder,
        within_s=within_s,
        GOFLAGS="-mod=mod -buildvcs=false -trimpath",
        CGO_ENABLED="0",
    )


def _staging(tool: Tool) -> str:
    """Return replace lines for the published modules that Kubernetes' own go.mod replaces with folders."""
    version = tool.required.get("k8s.io/kubernetes")
    if version is None:
        return ""
    cache = pathlib.Path(run("go", "env", "GOMODCACHE").strip())
    _go(cache, "mod", "download", f"k8s.io/kubernetes@{version}")
    text = (cache / f"k8s.io/kubernetes@{version}" / "go.mod").read_text()
    names = re.findall(r"^\s*(k8s\.io/[a-z-]+) => \./staging", text, re.MULTILINE)
    return "".join(f"replace {name} => {name} v0{version[2:]}\n" for name in names)


def prepare(tool: Tool) -> pathlib.Path:
    """Write the module with the dependencies; returns its folder."""
    folder = TOOLS / "src" / tool.name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "go.mod").exists():
        required = "".join(f"require {name} {version}\n" for name, version in tool.required.items())
        (folder / "go.mod").write_text(f"module example.com/{tool.name}\n\ngo 1.24.0\n\n{required}\n{_staging(tool)}")
    if (OUR_MAINS / tool.name).is_dir():
        shutil.copy(OUR_MAINS / tool.name / "main.go", folder)
    return folder


def build(tool: Tool) -> None:
    """Build the programs that do not exist yet; raises Failed."""
    if all((TOOLS / name).exists() for name in tool.packages):
        return
    if shutil.which("go") is None:
        raise Failed("Go is not installed")
    folder = prepare(tool)
    say(f"building {', '.join(tool.packages)}")
    for name, package in tool.packages.items():
        _go(folder, "build", "-ldflags", tool.flags, "-o", os.fspath(TOOLS / name), package)


def find(name: str) -> pathlib.Path:
    """Return the path of a built program."""
    return TOOLS / name
