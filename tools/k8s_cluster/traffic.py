"""Sends messages from a pod during a scenario, and checks the outcome of each."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator

from ops.simulator.call_log import highest_window
from tools.k8s_cluster.commands import Failed, say, wait
from tools.k8s_cluster.plane import Object, Plane

CALLERS = "callers"
LIMIT = 50
_FEW = 20
"""Up to so many missing messages are looked up one by one; a process has fewer in flight at 50 a second."""
_PORTS = {"p1": 9101, "p2": 9102}
_RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def callers(plane: Plane) -> None:
    """Create a namespace whose pods may call the gateway, as the README says."""
    script = (pathlib.Path(__file__).parent / "sender.py").read_text()
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": CALLERS, "labels": {"sms-gateway/callers": "allowed"}},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": CALLERS, "name": "sender"},
            "data": {"sender.py": script},
        },
    )


def caller(
    plane: Plane, name: str, *words: str, image: str = "localhost/sms-gateway:0.1.0", labelled: bool = True
) -> None:
    """Start a pod that runs `python WORDS`."""
    box = {
        "name": "it",
        "image": image,
        "args": list(words),
        "volumeMounts": [{"name": "sender", "mountPath": "/sender"}],
        "securityContext": _RESTRICTED,
    }
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": CALLERS,
                "name": name,
                "labels": {"sms-gateway/caller": "true"} if labelled else {},
            },
            "spec": {
                "restartPolicy": "Never",
                "containers": [box],
                "volumes": [{"name": "sender", "configMap": {"name": "sender"}}],
            },
        }
    )


def ended(plane: Plane, name: str, within_s: float = 60.0) -> str:
    """Wait until a caller has ended; returns its output. Raises Failed when the caller failed."""

    def phase() -> str:
        pod: Object = json.loads(plane.kubectl("-n", CALLERS, "get", "pod", name, "-o", "json"))
        return str(pod["status"].get("phase"))

    wait(f"the end of pod {name}", lambda: phase() in {"Succeeded", "Failed"}, within_s)
    printed = plane.kubectl("-n", CALLERS, "logs", name)
    if phase() == "Failed":
        raise Failed(f"pod {name} failed:\n{printed}")
    plane.kubectl("-n", CALLERS, "delete", "pod", name, "--now")
    return printed


def received(plane: Plane, namespace: str) -> dict[str, list[Object]]:
    """Return the requests that each simulated provider received, read through the API server."""
    path = f"/api/v1/namespaces/{namespace}/services/simulator:%d/proxy/_requests"
    return {
        name: [json.loads(line) for line in plane.kubectl("get", "--raw", path % port).splitlines()]
        for name, port in _PORTS.items()
    }


def settled(plane: Plane, namespace: str, ids: set[str], within_s: float) -> None:
    """Wait until every accepted message was taken, or has an unclear outcome because its dispatcher was killed.

    Raises Failed when a message is missing or was taken twice, or a rate was exceeded.
    """
    end = time.monotonic() + within_s
    while True:
        seen = received(plane, namespace)
        taken = [one["reference"] for requests in seen.values() for one in requests if one["taken"]]
        missing = ids - set(taken)
        if not missing or time.monotonic() > end:
            break
        time.sleep(2)
    unclear = {one for one in missing if len(missing) <= _FEW and _is_unclear(plane, namespace, one)}
    ours = [one for one in taken if one in ids]
    windows = {name: highest_window([one["at_ns"] for one in requests]) for name, requests in seen.items()}
    twice = len(ours) - len(set(ours))
    most = ", ".join(f"{name} {window}" for name, window in windows.items())
    lost = len(missing) - len(unclear)
    counted = f"accepted {len(ids)}, taken {len(set(ours))}, unclear {len(unclear)}, missing {lost}, twice {twice}"
    say(f"  {counted}; in any second: {most}")
    if lost or twice or max(windows.values()) > LIMIT:
        raise Failed("a promise was broken")


def _is_unclear(plane: Plane, namespace: str, message_id: str) -> bool:
    words = ["/app/bin/smsctl", "status", message_id, "--json", "--gateway", f"gateway.{namespace}:50051"]
    caller(plane, "asks", *words)
    status: Object = json.loads(ended(plane, "asks"))
    return (status.get("error") or {}).get("reason") == "UNCLEAR"


@contextlib.contextmanager
def flowing(
    plane: Plane,
    namespace: str,
    name: str,
    seconds: float,
    rate: float = 60.0,
    address: str = "",
) -> Iterator[None]:
    """Send messages inside the context, starting three seconds before; then wait until all were taken."""
    address = address or f"dns:///gateway-headless.{namespace}:50051"
    caller(plane, name, "/sender/sender.py", address, str(int(seconds * rate)), str(rate), name)
    wait("the sender", lambda: '"Running"' in plane.kubectl("-n", CALLERS, "get", "pod", name, "-o", "json"), 30)
    time.sleep(3)
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    lines = [line.split() for line in ended(plane, name, seconds + 120).splitlines()]
    ids = {line[1] for line in lines if line[0] == "id"}
    summary = "; ".join(" ".join(line) for line in lines if line[0] != "id")
    say(f"{name}: took {took:.0f} s of {seconds:.0f} s of {rate:g} messages a second; {summary}")
    settled(plane, namespace, ids, 45)
