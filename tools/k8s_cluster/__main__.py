"""`make k8s-cluster`: both overlays installed as the README tells, the small one run on a real node."""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile

from tools.k8s_cluster import build, crds, images, install, node, scenarios, traffic
from tools.k8s_cluster.commands import Failed, say
from tools.k8s_cluster.plane import Plane, fake_nodes

_PROD, _DEV = "sms-gateway", scenarios.NAMESPACE


def prod(plane: Plane) -> None:
    """Install prod on nodes that are not there: admission, validation, scheduling, controllers, roll-out.sh."""
    crds.teach(plane)
    fake_nodes(plane, ["a", "b", "c"])
    for number in range(3):
        node.nowhere(plane, f"{_PROD}/data-nats-{number}", "20Gi")
    install.install(plane, _PROD, keys=["alpha", "beta"], database_url="postgresql://sms@10.20.0.5/sms")
    overlay = install.K8S / "overlays" / "prod"
    install.roll_out(plane, overlay)
    install.standing(plane, _PROD)
    generations = _generations(plane)
    install.roll_out(plane, overlay)
    if _generations(plane) != generations:
        raise Failed("the second roll-out of the same manifests changed workloads")
    say("the second roll-out changed no workload")
    with_keda = install.with_keda(plane.folder)
    rendered = plane.kubectl("kustomize", str(with_keda))
    told = plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", text=rendered)
    say(f"prod with keda, held against the API: {len(told.splitlines())} objects")
    for line in install.complaints(plane, _PROD):
        say(f"  event {line}")
    plane.kubectl("delete", "namespace", _PROD, "--timeout=120s", within_s=130)
    plane.end("kwok")
    plane.kubectl("delete", "nodes", "-l", "type=kwok")


def _generations(plane: Plane) -> dict[str, int]:
    found = plane.get("deployments,statefulsets", "--namespace", _PROD)
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["generation"] for one in found}


def dev(plane: Plane, archive: pathlib.Path, before: str) -> None:
    """Run dev on a real node: installed, upgraded, rolled, killed, while everything is counted."""
    node.start(plane, archive)
    node.disk(plane, f"{_DEV}/data-nats-0", "20Gi")
    node.disk(plane, f"{_DEV}/data-postgres-0", "5Gi")
    install.install(plane, _DEV)
    traffic.callers(plane)
    if before:
        install.roll_out(plane, scenarios.overlay(plane, before))
        scenarios.upgraded(plane)
    else:
        install.roll_out(plane, install.K8S / "overlays" / "dev")
        install.standing(plane, _DEV)
    scenarios.messages(plane)
    scenarios.rolled(plane)
    scenarios.killed(plane)
    install.standing(plane, _DEV)
    plane.kubectl("delete", "namespace", _DEV, traffic.CALLERS, "--timeout=180s", within_s=190)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.k8s_cluster", description=__doc__)
    parser.add_argument("--only", choices=["prod", "dev"], help="one half")
    parser.add_argument("--image", default=images.ours(), help="our image, as the dev overlay names it")
    parser.add_argument("--before", default="", help="an older image, upgraded from with messages on their way")
    parser.add_argument("--base", default="localhost/python:3.11", help="what the other images are built on")
    return parser.parse_args()


def main() -> int:
    """Build, run, and leave the machine as it was; gives 0 when everything was kept."""
    options = arguments()
    if os.geteuid() != 0:
        raise SystemExit("a node needs root")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="smsgw-kube-"))
    folder.chmod(0o755)
    plane = Plane(folder)
    try:
        for tool in build.ALL:
            build.build(tool)
        wanted = [options.image, *([options.before] if options.before else [])]
        archive = folder / "images.tar"
        if options.only != "prod":
            images.archive(archive, [*wanted, *images.others(folder, options.base)])
        with node.machine_as_it_was(folder):
            try:
                plane.start()
                if options.only != "dev":
                    prod(plane)
                if options.only != "prod":
                    dev(plane, archive, options.before)
            finally:
                node.emptied(plane)
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
