"""The scenarios: changes and failures of the dev overlay on a real node while messages flow."""

import os
import pathlib
import shutil
import signal

import yaml

from tools.k8s_cluster import images, node
from tools.k8s_cluster.commands import ROOT, run, say, wait
from tools.k8s_cluster.install import check_pods, pods, roll_out, warnings
from tools.k8s_cluster.plane import Object, Plane, ready
from tools.k8s_cluster.traffic import caller, ended, flowing

NAMESPACE = "sms-gateway-dev"
_REST = """import json, sys, urllib.request
order = {"recipient": "+233201234567", "body": "Hello", "requestId": "by-rest"}
asked = urllib.request.Request(sys.argv[1], json.dumps(order).encode(), {"content-type": "application/json"})
answer = json.load(urllib.request.urlopen(asked, timeout=10))
status = json.load(urllib.request.urlopen(f"{sys.argv[1]}/{answer['messageId']}", timeout=10))
print(status["status"]["state"])
"""


def messages(plane: Plane) -> None:
    """Send one message through the Service and follow it, and one through Envoy."""
    words = ["/app/bin/smsctl", "send", "+233201234567", "Hello", "--request-id", "first", "--json", "--wait"]
    caller(plane, "one", *words, "--gateway", f"gateway.{NAMESPACE}:50051")
    ended(plane, "one")
    caller(
        plane, "asks", "/app/bin/smsctl", "status", "--request-id", "first", "--gateway", f"gateway.{NAMESPACE}:50051"
    )
    said = ended(plane, "asks")
    say(f"one message through the Service; its status: {' '.join(said.split())[:100]}")
    caller(plane, "rest", "-c", _REST, f"http://rest.{NAMESPACE}/v1/messages")
    say(f"one message by HTTP and JSON through Envoy; its state: {ended(plane, 'rest').strip()}")


def _roll(plane: Plane, *names: str) -> None:
    deployments = [f"deployment/{name}" for name in names]
    plane.kubectl("-n", NAMESPACE, "rollout", "restart", *deployments)
    for one in deployments:
        plane.kubectl("-n", NAMESPACE, "rollout", "status", one, "--timeout=180s", within_s=190)


def rolled(plane: Plane) -> None:
    """Roll both lanes, the coordinators, the projector and Envoy while messages flow."""
    with flowing(plane, NAMESPACE, "lanes-rolled", 40):
        _roll(plane, "dispatcher-p1", "dispatcher-p2")
    with flowing(plane, NAMESPACE, "others-rolled", 40):
        _roll(plane, "coordinator", "projector", "rest")


def gateways_rolled(plane: Plane) -> None:
    """Roll one gateway, called by its headless name and by the Service; then roll two, as in the base."""
    with flowing(plane, NAMESPACE, "gateway-rolled", 70):
        _roll(plane, "gateway")
    with flowing(plane, NAMESPACE, "gateway-rolled-service", 70, address=f"gateway.{NAMESPACE}:50051"):
        _roll(plane, "gateway")
    # The node is small, so each gateway requests less.
    plane.kubectl("-n", NAMESPACE, "set", "resources", "deployment/gateway", "--requests=cpu=50m")
    plane.kubectl("-n", NAMESPACE, "scale", "deployment/gateway", "--replicas=2")
    plane.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/gateway", "--timeout=180s", within_s=190)
    with flowing(plane, NAMESPACE, "two-gateways-rolled", 120):
        _roll(plane, "gateway")


def _of(plane: Plane, component: str) -> Object:
    """Return a pod of a component."""
    return next(one for one in pods(plane, NAMESPACE) if one["metadata"]["name"].startswith(component))


def _process(plane: Plane, one: Object) -> int:
    """Return the process id of a pod's first container on the machine."""
    identifier = one["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    tasks = run("ctr", f"--address={plane.folder}/containerd.sock", "--namespace=k8s.io", "tasks", "list")
    (line,) = [line for line in tasks.splitlines() if line.startswith(identifier)]
    return int(line.split()[1])


def _restarted(plane: Plane, one: Object) -> bool:
    name = one["metadata"]["name"]
    now = next(found for found in pods(plane, NAMESPACE) if found["metadata"]["name"] == name)
    return int(now["status"]["containerStatuses"][0]["restartCount"]) > 0 and ready(now)


def killed(plane: Plane) -> None:
    """Kill a lane's process, delete pods at once, and freeze a process until its liveness probe restarts it."""
    with flowing(plane, NAMESPACE, "process-killed", 30):
        one = _of(plane, "dispatcher-p1")
        os.kill(_process(plane, one), signal.SIGKILL)
        wait("a restart by the kubelet", lambda: _restarted(plane, one), 60)
    with flowing(plane, NAMESPACE, "pod-removed", 30):
        for component in ("dispatcher-p2", "coordinator"):
            name = _of(plane, component)["metadata"]["name"]
            plane.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force")
        wait("pods in their place", lambda: all(map(ready, pods(plane, NAMESPACE))), 60)
    with flowing(plane, NAMESPACE, "process-frozen", 130, rate=30):
        one = _of(plane, "dispatcher-p2")
        os.kill(_process(plane, one), signal.SIGSTOP)
        wait("a restart after the liveness probe", lambda: _restarted(plane, one), 160)
    found = [line for line in warnings(plane, NAMESPACE) if "Liveness" in line]
    say(f"  {found[0] if found else 'no event about a liveness probe'}")


def overlay(plane: Plane, image: str) -> pathlib.Path:
    """Copy the manifests with another version of our image in the dev overlay; returns the overlay."""
    folder = plane.folder / f"k8s-{image.rpartition(':')[2]}"
    shutil.copytree(ROOT / "deploy" / "k8s", folder)
    path = folder / "overlays" / "dev" / "kustomization.yaml"
    manifest: Object = yaml.safe_load(path.read_text())
    name, _, tag = image.rpartition(":")
    next(one for one in manifest["images"] if one["name"] == "sms-gateway").update(newName=name, newTag=tag)
    path.write_text(yaml.safe_dump(manifest))
    # The simulated providers keep their image: their log of calls is in memory.
    simulator = path.with_name("simulator.yaml")
    simulator.write_text(simulator.read_text().replace("image: sms-gateway", f"image: {images.ours()}"))
    return path.parent


def three_servers(plane: Plane) -> pathlib.Path:
    """Copy the manifests with three nats-servers on one node in the dev overlay; returns the overlay."""
    folder = plane.folder / "k8s-three"
    shutil.copytree(ROOT / "deploy" / "k8s", folder)
    path = folder / "overlays" / "dev" / "kustomization.yaml"
    manifest: Object = yaml.safe_load(path.read_text())
    # Remove dev's changes of the stream's configuration, so that the base's own applies.
    manifest["configMapGenerator"] = [one for one in manifest["configMapGenerator"] if one["name"] == "providers"]
    next(one for one in manifest["replicas"] if one["name"] == "nats")["count"] = 3
    spread = {"op": "remove", "path": "/spec/template/spec/topologySpreadConstraints"}
    cpu = {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "100m"}
    manifest["patches"] = [{"target": {"kind": "StatefulSet", "name": "nats"}, "patch": yaml.safe_dump([spread, cpu])}]
    path.write_text(yaml.safe_dump(manifest))
    return path.parent


def stream_rolled(plane: Plane) -> None:
    """Restart the three nats-servers one after the other while messages flow."""
    with flowing(plane, NAMESPACE, "stream-rolled", 200):
        plane.kubectl("-n", NAMESPACE, "rollout", "restart", "statefulset/nats")
        words = ["rollout", "status", "statefulset/nats", "--timeout=300s"]
        plane.kubectl("-n", NAMESPACE, *words, within_s=310)


def disks(plane: Plane, servers: int) -> None:
    """Create the volumes for the claims of the dev overlay."""
    for number in range(servers):
        node.disk(plane, f"{NAMESPACE}/data-nats-{number}", "20Gi")
    node.disk(plane, f"{NAMESPACE}/data-postgres-0", "5Gi")


def upgraded(plane: Plane) -> None:
    """Roll from the running image to the overlay's own while messages flow."""
    before = {one["spec"]["containers"][0]["image"] for one in pods(plane, NAMESPACE)}
    with flowing(plane, NAMESPACE, "upgraded", 120):
        roll_out(plane, ROOT / "deploy" / "k8s" / "overlays" / "dev")
    after = {one["spec"]["containers"][0]["image"] for one in pods(plane, NAMESPACE)}
    say(f"  no pod runs {', '.join(sorted(before - after))} any more")
    check_pods(plane, NAMESPACE)
