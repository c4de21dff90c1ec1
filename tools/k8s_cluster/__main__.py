"""`make k8s-cluster`: installs both overlays as the README says, and runs the small one on a real node."""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

from tools.k8s_check import prod_with_keda
from tools.k8s_cluster import build, crds, images, install, node, scenarios, traffic
from tools.k8s_cluster.commands import Failed, say, wait
from tools.k8s_cluster.plane import Plane, fake_nodes

_PROD, _DEV = "sms-gateway", scenarios.NAMESPACE


def prod(plane: Plane) -> None:
    """Install prod on simulated nodes: admission, validation, scheduling, controllers, roll-out.sh."""
    crds.install(plane)
    fake_nodes(plane, ["a", "b", "c"])
    for number in range(3):
        node.unmounted_disk(plane, f"{_PROD}/data-nats-{number}", "20Gi")
    install.install(plane, _PROD, keys=["alpha", "beta"], database_url="postgresql://sms@10.20.0.5/sms")
    overlay = install.K8S / "overlays" / "prod"
    install.roll_out(plane, overlay)
    install.check_pods(plane, _PROD)
    # The autoscaler's minimum, which it applies even without metrics.
    wait("three gateways", lambda: _workloads(plane)["gateway"][1] == 3, 60)
    before = _workloads(plane)
    install.roll_out(plane, overlay)
    if _workloads(plane) != before:
        raise Failed("the second roll-out of the same manifests changed workloads")
    say("the autoscaler made three gateways of one; the second roll-out left them, and changed no workload")
    with_keda = prod_with_keda(plane.folder / "with-keda")
    rendered = plane.kubectl("kustomize", str(with_keda))
    applied = json.loads(plane.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", text=rendered))["items"]
    lanes = {one["metadata"]["name"]: one["spec"]["replicas"] for one in applied if one["kind"] == "Deployment"}
    say(f"prod with keda, held against the API: {len(applied)} objects; pods until it scales: {lanes}")
    for line in install.warnings(plane, _PROD):
        say(f"  event {line}")
    plane.kubectl("delete", "namespace", _PROD, "--timeout=120s", within_s=130)
    plane.end("kwok")
    plane.kubectl("delete", "nodes", "-l", "type=kwok")


def _workloads(plane: Plane) -> dict[str, tuple[str, int]]:
    """Return the revision and the number of pods of each workload."""
    revision = "deployment.kubernetes.io/revision"
    return {
        one["metadata"]["name"]: (
            one["status"].get("updateRevision") or one["metadata"]["annotations"][revision],
            one["spec"]["replicas"],
        )
        for one in plane.get("deployments,statefulsets", "--namespace", _PROD)
    }


def dev(plane: Plane, before: str) -> None:
    """Run dev on the node: install, upgrade, roll and kill it, and count every message."""
    scenarios.disks(plane, 1)
    install.install(plane, _DEV)
    if before:
        install.roll_out(plane, scenarios.overlay(plane, before))
        scenarios.upgraded(plane)
    else:
        install.roll_out(plane, install.K8S / "overlays" / "dev")
        install.check_pods(plane, _DEV)
    scenarios.messages(plane)
    scenarios.rolled(plane)
    scenarios.gateways_rolled(plane)
    scenarios.killed(plane)
    plane.kubectl("delete", "namespace", _DEV, "--timeout=180s", within_s=190)


def three(plane: Plane) -> None:
    """Run the base with three nats-servers on the node, and roll them."""
    scenarios.disks(plane, 3)
    install.install(plane, _DEV)
    install.roll_out(plane, scenarios.three_servers(plane))
    install.check_pods(plane, _DEV)
    scenarios.stream_rolled(plane)
    plane.kubectl("delete", "namespace", _DEV, "--timeout=180s", within_s=190)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.k8s_cluster", description=__doc__)
    parser.add_argument(
        "--only", choices=["prod", "dev", "three"], action="append", help="run only this part; repeatable"
    )
    parser.add_argument("--image", default=images.ours(), help="our image, as the dev overlay names it")
    parser.add_argument("--before", default="", help="an older image to upgrade from while messages flow")
    parser.add_argument("--base", default="localhost/python:3.11", help="the base of the other images")
    return parser.parse_args()


def main() -> int:
    """Build, run, and restore the machine; returns the exit code, 0 when every promise was kept."""
    options = arguments()
    if os.geteuid() != 0:
        raise SystemExit("a node needs root")
    parts = options.only or ["prod", "dev", "three"]
    real = parts != ["prod"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="smsgw-kube-"))
    folder.chmod(0o755)
    plane = Plane(folder)
    try:
        for tool in build.ALL:
            build.build(tool)
        wanted = [options.image, *([options.before] if options.before else [])]
        archive = folder / "images.tar"
        if real:
            images.archive(archive, [*wanted, *images.others(folder, options.base)])
        with node.restored_machine(folder):
            try:
                plane.start()
                if "prod" in parts:
                    prod(plane)
                if real:
                    node.start(plane, archive)
                    traffic.callers(plane)
                if "dev" in parts:
                    dev(plane, options.before)
                if "three" in parts:
                    three(plane)
            finally:
                node.remove_pods(plane)
                plane.end()
    except Failed as exc:
        say(f"FAILED: {exc}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("everything was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
