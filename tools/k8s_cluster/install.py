"""Installs an overlay as deploy/k8s/README.md says, and collects the cluster's warnings."""

import pathlib
from collections.abc import Sequence

from tools.k8s_cluster.commands import ROOT, Failed, run, say
from tools.k8s_cluster.plane import Object, Plane, ready

K8S = ROOT / "deploy" / "k8s"


def install(plane: Plane, namespace: str, keys: Sequence[str] = (), database_url: str = "") -> None:
    """Do the README's steps before roll-out.sh: the namespace, the Secrets, and a key for each provider in `keys`."""
    plane.kubectl("create", "namespace", namespace, "--save-config")
    made = run("env", f"DATABASE_URL={database_url}", "sh", K8S / "secrets.sh", namespace)
    say(f"secrets.sh: {len(plane.kubectl('create', '-f', '-', text=made).splitlines())} Secrets")
    for key in keys:
        words = ["create", "secret", "generic", f"provider-{key}", "--from-literal=key=no-real-key"]
        plane.kubectl("--namespace", namespace, *words)


def roll_out(plane: Plane, overlay: pathlib.Path, within_s: float = 1200.0) -> None:
    """Run roll-out.sh; raises Failed when it fails or the server warns."""
    output = run(
        "sh",
        "-c",
        'exec "$0" "$1" 2>&1',
        K8S / "roll-out.sh",
        overlay,
        KUBECTL=" ".join(plane.kubectl_words),
        within_s=within_s,
    )
    warned = [line for line in output.splitlines() if "warning" in line.lower()]
    unchanged = sum(line.endswith(" unchanged") for line in output.splitlines())
    say(f"roll-out.sh {overlay.name}: done, {len(output.splitlines())} lines, {unchanged} of them unchanged")
    if warned:
        raise Failed("the server warns:\n" + "\n".join(warned))


def pods(plane: Plane, namespace: str) -> list[Object]:
    """Return the pods that are neither completed nor terminating."""
    found = plane.get("pods", "--namespace", namespace)
    return [
        one for one in found if "deletionTimestamp" not in one["metadata"] and one["status"].get("phase") != "Succeeded"
    ]


def check_pods(plane: Plane, namespace: str) -> None:
    """Print the pods with node and restarts; raises Failed when one is not ready."""
    found = pods(plane, namespace)
    for one in sorted(found, key=lambda pod: str(pod["metadata"]["name"])):
        restarts = sum(box["restartCount"] for box in one["status"].get("containerStatuses", []))
        say(f"  {one['metadata']['name']} on {one['spec'].get('nodeName')}: ready {ready(one)}, restarts {restarts}")
    if not all(map(ready, found)):
        raise Failed("not all pods are ready")


def warnings(plane: Plane, namespace: str) -> list[str]:
    """Return the events of type Warning, without duplicates."""
    words = ["--namespace", namespace, "--field-selector=type=Warning"]
    return sorted(
        {
            f"{one['reason']}: {one['involvedObject']['name']}: {one.get('message', '')}"
            for one in plane.get("events", *words)
        }
    )
