"""Runs the dev overlay's pods with podman on this machine, rolls a dispatcher while messages flow, and counts.

What a cluster would do is done here by hand, and told: pods share the host's network, names of Services stand in each
pod's hosts file, Secrets are folders, what comes from a pod's fields is filled in, PostgreSQL runs beside. Everything
else (image, commands, variables, settings, users and certificates of the stream, security contexts, volumes, grace) is
what the manifests say. Needs root, podman, and the image (`make image`).
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import yaml
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.embedded import Postgres
from ops.embedded.nats import binary
from ops.simulator.ledger import highest_window

ROOT = pathlib.Path(__file__).parents[1]
BIN = pathlib.Path(sys.executable).parent
COMPONENT, PROVIDER = "app.kubernetes.io/component", "sms-gateway/provider"
PATIENCE_S, PAUSE_S = 60, 0.2
NAMES = ["nats-0.nats-headless", "simulator", "gateway-headless", "postgres"]
GRACE_S = 35
Object = dict[str, Any]


def say(text: str) -> None:
    """Print a line of the transcript."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*command: str | pathlib.Path, text: str | None = None, **environment: str) -> str:
    """Run a command; ends with its words when it fails."""
    done = subprocess.run(  # noqa: S603 - our own tools
        list(map(str, command)),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Cluster:
    """Stands in for the kubelet: makes pods out of workloads, starts and stops them by name."""

    def __init__(self, folder: pathlib.Path, image: str, nats_image: str) -> None:
        self._folder = folder
        self._images = {"sms-gateway": image, "nats": nats_image}
        text = run(BIN / "kubectl", "kustomize", ROOT / "deploy" / "k8s" / "overlays" / "dev")
        self._objects: list[Object] = list(yaml.safe_load_all(text))
        self._port = 50060
        self.pods: list[str] = []

    def secrets(self, database_url: str) -> None:
        """Lay out what secrets.sh makes as folders that uid 10001 and the nats-server may read."""
        text = run("sh", ROOT / "deploy" / "k8s" / "secrets.sh", "sms-gateway-dev", DATABASE_URL=database_url)
        for one in yaml.safe_load_all(text):
            for key, value in one["data"].items():
                path = self._folder / "secrets" / one["metadata"]["name"] / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(value))

    def workloads(self) -> Iterator[Object]:
        """Give every Deployment, StatefulSet and Job."""
        return (one for one in self._objects if one["kind"] in {"Deployment", "StatefulSet", "Job"})

    def named(self, name: str) -> Object:
        """Find a workload."""
        (found,) = [one for one in self.workloads() if one["metadata"]["name"] == name]
        return found

    def start(self, workload: Object, name: str) -> int:
        """Start one pod of a workload under a name; gives the port of its health checks."""
        self._port += 1
        spec = json.loads(json.dumps(workload["spec"]["template"]["spec"]))
        labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
        spec["hostNetwork"] = True
        hosts = self._folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
        spec.pop("topologySpreadConstraints", None)
        spec.pop("serviceAccountName", None)
        volumes = [self._volume(one) for one in spec.get("volumes", [])]
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes += [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims]
        spec["volumes"] = [*volumes, {"name": "hosts", "hostPath": {"path": str(hosts), "type": "File"}}]
        for box in [*spec.get("initContainers", []), *spec["containers"]]:
            self._fill_in(box, labels)
            box.setdefault("volumeMounts", []).append({"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}
        maps = [one for one in self._objects if one["kind"] == "ConfigMap"]
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([*maps, pod]))
        run("podman", "play", "kube", path)
        self.pods.append(name)
        return self._port

    def _volume(self, volume: Object) -> Object:
        if "secret" not in volume:
            return volume
        folder = self._folder / "secrets" / volume["secret"]["secretName"]
        folder.mkdir(parents=True, exist_ok=True)
        return {"name": volume["name"], "hostPath": {"path": str(folder), "type": "Directory"}}

    def _fill_in(self, box: Object, labels: Mapping[str, str]) -> None:
        """Do what the kubelet does with fields, and what this machine needs: an image, a port of its own."""
        kind = box["image"].rpartition("/")[2].partition(":")[0]
        box |= {"image": self._images[kind], "imagePullPolicy": "Never"}
        for variable in box.get("env", []):
            if "valueFrom" in variable:
                path = variable.pop("valueFrom")["fieldRef"]["fieldPath"]
                variable["value"] = "nats-0" if path == "metadata.name" else labels[PROVIDER]
            if variable["name"] == "SMSGW_HEALTH_LISTEN":
                variable["value"] = f"127.0.0.1:{self._port}"
        values = {variable["name"]: variable["value"] for variable in box.get("env", [])}
        box["args"] = [values.get(word.strip("$()"), word) if word[:1] == "$" else word for word in box.get("args", [])]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
            box.pop(kind, None)

    def stop(self, name: str) -> float:
        """Stop a pod as the kubelet would, SIGTERM and the grace; gives how long it took."""
        began = time.monotonic()
        run("podman", "pod", "stop", "--time", str(GRACE_S), name)
        return time.monotonic() - began

    def logs(self, name: str) -> str:
        """Give the end of what a pod has said."""
        told = ["podman", "pod", "logs", "--tail", "15", name]
        done = subprocess.run(told, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        return f"--- {name}\n{done.stdout}{done.stderr}"

    def end(self, *, telling: bool) -> None:
        """Take all pods away; what each said last is told when something went wrong."""
        for name in self.pods:
            if telling:
                say(self.logs(name))
            subprocess.run(["podman", "pod", "rm", "--force", "--time", "5", name], capture_output=True, check=False)  # noqa: S603, S607


def nats_image(folder: pathlib.Path, base: str) -> str:
    """Make an image of the nats-server that the tests use."""
    context = folder / "nats-image"
    context.mkdir()
    shutil.copy(binary(), context / "nats-server")
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY nats-server /usr/local/bin/nats-server\n")
    run("podman", "build", "--tag", "localhost/nats:run", context)
    return "localhost/nats:run"


@contextlib.contextmanager
def concurrent(count: int, rate: float) -> Iterator[Future[list[str]]]:
    """Send from a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(asyncio.run, send(count, rate))


def ready(port: int, service: str = "", within_s: float = 60.0) -> None:
    """Wait until a process is ready, asked as a probe asks; ends when it does not get so."""
    end = time.monotonic() + within_s
    while True:
        asked = [str(BIN / "smsctl"), "probe", "--service", service, f"127.0.0.1:{port}"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:  # noqa: S603 - our own tool
            return
        if time.monotonic() > end:
            raise SystemExit(f"port {port} did not get ready in {within_s:g} s")
        time.sleep(0.3)


def install(cluster: Cluster) -> dict[str, int]:
    """Start everything in the order of roll-out.sh; gives the ports of the health checks by pod."""
    cluster.start(cluster.named("nats"), "nats-0")
    cluster.start(cluster.named("simulator"), "simulator")
    time.sleep(2)
    cluster.start(cluster.named("setup"), "setup")
    code = run("podman", "wait", "setup-topology").strip()
    say(f"set-up Job: migrate and topology ended with {code}")
    if code != "0":
        raise SystemExit(1)
    ports = {}
    for name, workload in [
        ("coordinator-a", "coordinator"),
        ("coordinator-b", "coordinator"),
        ("projector-a", "projector"),
        ("dispatcher-p1-a", "dispatcher-p1"),
        ("dispatcher-p2-a", "dispatcher-p2"),
        ("gateway-a", "gateway"),
    ]:
        ports[name] = cluster.start(cluster.named(workload), name)
    for name, port in ports.items():
        ready(50051 if name == "gateway-a" else port)
    say(f"ready: {', '.join(ports)}")
    return ports


async def send(count: int, rate: float) -> list[str]:
    """Send so many messages at a steady rate, each again while the gateway is UNAVAILABLE, for up to PATIENCE_S."""
    ids = []
    async with grpc.aio.insecure_channel("127.0.0.1:50051") as channel:
        stub = rpc.SmsGatewayServiceStub(channel)
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            request = api.SendSmsRequest(recipient=f"+23320{number:07d}", body="Rolled", request_id=f"roll-{number}")
            ids.append(await accepted(stub.SendSms, request))
    return ids


async def accepted(send_sms: Callable[..., Awaitable[api.SendSmsResponse]], request: api.SendSmsRequest) -> str:
    """Send one message until it is accepted; its request_id makes that safe. Raises AioRpcError after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = await send_sms(request, timeout=10)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return answer.message_id


def received(port: int) -> list[Object]:
    """Give what a simulated provider's socket has seen."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_requests", timeout=20) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


def roll(cluster: Cluster) -> None:
    """Roll both lanes twice as a Deployment with maxSurge 1 does: the new pod gets ready, then the old one ends."""
    for before, after in (("a", "b"), ("b", "c")):
        for lane in ("p1", "p2"):
            port = cluster.start(cluster.named(f"dispatcher-{lane}"), f"dispatcher-{lane}-{after}")
            ready(port)
            took = cluster.stop(f"dispatcher-{lane}-{before}")
            say(f"rolled dispatcher-{lane}: {before} ended {took:.1f} s after SIGTERM, of {GRACE_S} s")


def count(ids: list[str], within_s: float) -> bool:
    """Wait until everything was sent; tells whether nothing is missing, doubled or too fast."""
    end = time.monotonic() + within_s
    while True:
        seen = {port: received(port) for port in (9101, 9102)}
        taken = [one["reference"] for requests in seen.values() for one in requests if one["taken"]]
        missing = set(ids) - set(taken)
        if not missing or time.monotonic() > end:
            break
        time.sleep(0.5)
    doubled = len(taken) - len(set(taken))
    windows = [highest_window([one["at_ns"] for one in requests]) for requests in seen.values()]
    say(f"accepted {len(ids)}, taken {len(set(taken))}, missing {len(missing)}, twice {doubled}")
    say(f"most sends in any second, wherever it starts: p1 {windows[0]}, p2 {windows[1]}; bought: 50 each")
    return not missing and not doubled and max(windows) <= 50


def main() -> int:
    """Run it all; gives 0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="localhost/sms-gateway:0.1.0")
    parser.add_argument("--base", default="localhost/python:3.11", help="what the nats image is built on")
    parser.add_argument("--messages", type=int, default=1800)
    parser.add_argument("--rate", type=float, default=60.0)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="smsgw-run-"))
    folder.chmod(0o755)
    postgres = Postgres(folder / "postgres", durable=False)
    cluster = Cluster(folder, options.image, nats_image(folder, options.base))
    kept = False
    try:
        postgres.start()
        cluster.secrets(postgres.url)
        install(cluster)
        with concurrent(options.messages, options.rate) as sending:
            time.sleep(3)
            roll(cluster)
            ids = sending.result()
        kept = count(ids, 60)
    finally:
        cluster.end(telling=not kept)
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
