"""Renders the manifests and validates them strictly; prints what was checked, and what was skipped and why.

The checks that need Go, promtool, the collector or kube-linter run only where these are installed.
"""

import importlib.resources
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import yaml

ROOT = pathlib.Path(__file__).parents[1]
K8S = ROOT / "deploy" / "k8s"
BIN = pathlib.Path(sys.executable).parent
OUT = ROOT / "var" / "k8s"
VERSION = "1.37"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0"
CUSTOM = ("PrometheusRule", "ServiceMonitor", "ScaledObject")
"""Kinds whose schemas are in their operators; tests/deploy checks them."""

RENDERED = {
    "base": K8S / "base",
    "lane": K8S / "dispatcher",
    "dev": K8S / "overlays" / "dev",
    "prod": K8S / "overlays" / "prod",
}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*command: str | pathlib.Path, **environment: str) -> str:
    """Run a command and return its output; exits with that output when it fails."""
    done = subprocess.run(  # noqa: S603 - our own tools
        list(map(str, command)), capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def render(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Write the output of kustomize for a folder; returns the file."""
    path = OUT / f"{name}.yaml"
    path.write_text(run(BIN / "kubectl", "kustomize", folder))
    return path


def prod_with_keda(scratch: pathlib.Path) -> pathlib.Path:
    """Copy the manifests with prod's optional component turned on; returns the overlay."""
    shutil.copytree(K8S, scratch / "k8s")
    overlay = scratch / "k8s" / "overlays" / "prod"
    path = overlay / "kustomization.yaml"
    path.write_text(path.read_text().replace("  # - keda ", "  - keda #"))
    return overlay


def kubeconform() -> pathlib.Path | None:
    """Find kubeconform, or build it if Go is installed; None when neither is possible."""
    tools = ROOT / "var" / "tools"
    if not (tools / "kubeconform").exists():
        if shutil.which("go") is None:
            return None
        run("go", "install", KUBECONFORM, GOBIN=str(tools), GOFLAGS="-buildvcs=false")
    return tools / "kubeconform"


def schemas(paths: Sequence[pathlib.Path]) -> pathlib.Path:
    """Write the schemas of kubernetes-validate with references that kubeconform can follow; returns their folder."""
    folder = OUT / "schemas"
    folder.mkdir(exist_ok=True)
    objects = [one for path in paths for one in yaml.safe_load_all(path.read_text())]
    names = {"_definitions"}
    for one in objects:
        group, _, version = one["apiVersion"].rpartition("/")
        names.add("-".join(filter(None, (one["kind"].lower(), group.partition(".")[0], version))))
    package = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    for name in sorted(names):
        source = package / f"{name}.json"
        if source.is_file():
            schema = json.loads(source.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
            del schema["$id"]
            (folder / source.name).write_text(json.dumps(schema))
    return folder


def validate(paths: Sequence[pathlib.Path]) -> None:
    """Validate every object against the schemas of Kubernetes; unknown fields are errors."""
    for path in paths:
        known = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] not in CUSTOM]
        strict = path.with_suffix(".known.yaml")
        strict.write_text(yaml.safe_dump_all(known))
        run(BIN / "kubernetes-validate", "-k", VERSION, "--strict", strict)
        say(f"kubernetes-validate {VERSION} --strict: {path.stem}, {len(known)} objects")
    checker = kubeconform()
    if checker is None:
        say("skipped: kubeconform (no Go here)")
        return
    location = f"{schemas(paths)}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    output = run(checker, "-strict", "-summary", "-schema-location", location, "-skip", ",".join(CUSTOM), *paths)
    say(f"kubeconform: {output.strip().splitlines()[-1]}")


def check_rules(path: pathlib.Path) -> None:
    """Check the alerts with promtool, if it is installed."""
    if shutil.which("promtool") is None:
        say("skipped: promtool (Debian's package prometheus has it)")
        return
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] == "PrometheusRule":
            rules = OUT / "rules.yaml"
            rules.write_text(yaml.safe_dump(one["spec"]))
            say(f"promtool: {run('promtool', 'check', 'rules', rules).strip().splitlines()[-1].strip()}")


def check_collector(path: pathlib.Path) -> None:
    """Check the collector's configuration, if `make k8s-cluster` has built the collector or it is installed."""
    here = ROOT / "var" / "tools" / "otelcol"
    collector = str(here) if here.exists() else shutil.which("otelcol")
    if collector is None:
        say("skipped: otelcol (`make k8s-cluster` builds it)")
        return
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith("otel-collector-"):
            config = OUT / "collector.yaml"
            config.write_text(one["data"]["collector-config.yaml"])
            run(collector, "validate", f"--config={config}", OTLP_BACKEND="127.0.0.1:4317")
            say("otelcol validate: the collector's configuration is valid")


def lint(paths: Sequence[pathlib.Path]) -> None:
    """Run kube-linter, if it is installed."""
    if shutil.which("kube-linter") is None:
        say("skipped: kube-linter (not installed here)")
        return
    run("kube-linter", "lint", *paths)
    say("kube-linter: nothing found")


def main() -> None:
    """Check everything."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {**RENDERED, "prod-with-keda": prod_with_keda(pathlib.Path(scratch))}
        paths = {name: render(name, folder) for name, folder in folders.items()}
    validate(list(paths.values()))
    check_rules(paths["prod"])
    check_collector(paths["prod"])
    lint([paths["dev"], paths["prod"]])


if __name__ == "__main__":
    main()
