"""The control plane: etcd, API server, controllers, scheduler and kwok, in an isolated network namespace."""

import ipaddress
import json
import pathlib
import secrets
import shutil
import signal
import subprocess
import time
from typing import Any

import yaml

from tools.k8s_cluster.build import find
from tools.k8s_cluster.commands import BIN, run, say, wait

NETNS = "smsgw-kube"
NODE_IP = "10.250.0.1"
SERVICES = "10.96.0.0/16"
API = "https://127.0.0.1:6443"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_STOP_S = 20.0

Object = dict[str, Any]


class Plane:
    """The control plane of one cluster. It writes only below `folder`; `end` stops all programs that it has started."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.inside = ["nsenter", f"--net=/run/netns/{NETNS}"]
        self.kubectl_words = [*self.inside, str(BIN / "kubectl"), f"--kubeconfig={folder}/admin.conf"]
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self) -> None:
        """Start everything; returns when the API answers and knows its default objects."""
        run("ip", "netns", "add", NETNS)
        for words in (
            "link set lo up",
            "link add node0 type bridge",
            f"addr add {NODE_IP}/24 dev node0",
            "link set node0 up",
            "route add default dev node0",
        ):
            run("ip", "-n", NETNS, *words.split())
        self._certificates()
        self._tokens()
        self._etcd_and_api()
        wait("the API", lambda: self.kubectl("get", "--raw", "/readyz") == "ok", 120)
        known = f"--kubeconfig={self.folder}/admin.conf"
        self.spawn(
            *("kube-controller-manager", known, "--use-service-account-credentials", "--leader-elect=false"),
            f"--service-account-private-key-file={self.folder}/sa.key",
            f"--root-ca-file={self.folder}/ca.crt",
            f"--cert-dir={self.folder}/kcm",
        )
        self.spawn("kube-scheduler", known, "--leader-elect=false")
        wait("an account", lambda: "default" in self.kubectl("-n", "default", "get", "serviceaccounts"), 60)
        version = json.loads(self.kubectl("version", "-o", "json"))
        say(f"control plane: Kubernetes {version['serverVersion']['gitVersion']}")

    def _etcd_and_api(self) -> None:
        self.spawn(
            "etcd",
            *(f"--data-dir={self.folder}/etcd", "--listen-client-urls=http://127.0.0.1:2379", "--unsafe-no-fsync"),
            *("--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380"),
        )
        self.spawn(
            "kube-apiserver",
            *(
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={NODE_IP}",
                "--authorization-mode=Node,RBAC",
            ),
            *("--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICES}"),
            *(f"--token-auth-file={self.folder}/tokens.csv", f"--service-account-key-file={self.folder}/sa.pub"),
            *(f"--service-account-signing-key-file={self.folder}/sa.key", "--allow-privileged"),
            *("--service-account-issuer=https://kubernetes.default.svc.cluster.local", f"--cert-dir={self.folder}"),
            *(f"--tls-cert-file={self.folder}/api.crt", f"--tls-private-key-file={self.folder}/api.key"),
            "--kubelet-preferred-address-types=InternalIP",
        )

    def _certificates(self) -> None:
        folder = self.folder
        first = ipaddress.ip_network(SERVICES)[1]
        names = ",".join([*(f"DNS:{name}" for name in _NAMES), *(f"IP:{one}" for one in ("127.0.0.1", first, NODE_IP))])
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        run(*new, "-subj", "/CN=ca", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
        authority: list[str | pathlib.Path] = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"]
        extensions = [
            "-subj",
            "/CN=api",
            "-addext",
            f"subjectAltName={names}",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]
        run(*new, *extensions, *authority, "-keyout", folder / "api.key", "-out", folder / "api.crt")
        run("openssl", "genrsa", "-out", folder / "sa.key", "2048")
        run("openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")

    def _tokens(self) -> None:
        lines = []
        for name, user, group in (
            ("admin", "admin", "system:masters"),
            ("node", "system:node:node-1", "system:nodes"),
            ("proxy", "system:kube-proxy", "system:node-proxier"),
        ):
            token = secrets.token_hex(16)
            lines.append(f'{token},{user},{name},"{group}"\n')
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": "it", "cluster": {"server": API, "certificate-authority": str(self.folder / "ca.crt")}}
                ],
                "users": [{"name": "me", "user": {"token": token}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
                "current-context": "it",
            }
            (self.folder / f"{name}.conf").write_text(yaml.safe_dump(config))
        (self.folder / "tokens.csv").write_text("".join(lines))

    def spawn(self, name: str, *words: str, **environment: str) -> None:
        """Start a program in the network namespace; its output goes to NAME.log."""
        program = find(name) if find(name).exists() else shutil.which(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own tools
                [*self.inside, str(program), *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            )
        self._children.append((name, child))

    def kubectl(self, *words: str, text: str | None = None, within_s: float = 120.0) -> str:
        """Run kubectl as the administrator; raises Failed."""
        return run(*self.kubectl_words, *words, text=text, within_s=within_s)

    def get(self, kind: str, *words: str) -> list[Object]:
        """Return the objects of a kind."""
        items: list[Object] = json.loads(self.kubectl("get", kind, "-o", "json", *words))["items"]
        return items

    def apply(self, *objects: Object) -> None:
        """Apply objects that belong to the test cluster itself."""
        self.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(objects))

    def create(self, one: Object) -> None:
        """Create an object whose name the server chooses."""
        self.kubectl("create", "-f", "-", text=yaml.safe_dump(one))

    def end(self, *names: str) -> None:
        """End the programs with these names, or all, newest first; after all, the network namespace is removed."""
        for name, child in reversed(self._children):
            if names and name not in names:
                continue
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children = [(name, child) for name, child in self._children if child.poll() is None]
        if not names:
            time.sleep(0.5)
            subprocess.run(["ip", "netns", "delete", NETNS], capture_output=True, check=False)  # noqa: S603, S607


def fake_nodes(plane: Plane, zones: list[str]) -> None:
    """Add nodes that kwok simulates: pods on them are reported as ready but do not run."""
    for number, zone in enumerate(zones):
        name = f"fake-{number}"
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone, "type": "kwok"},
                },
            }
        )
        capacity = {"cpu": "8", "memory": "32Gi", "pods": "110"}
        status = {"status": {"capacity": capacity, "allocatable": capacity}}
        plane.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    plane.spawn(
        "kwok",
        f"--kubeconfig={plane.folder}/admin.conf",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--cidr=10.245.0.0/24",
        "--node-lease-duration-seconds=40",
        f"--node-ip={NODE_IP}",
    )
    wait("fake nodes", lambda: all(ready(one) for one in plane.get("nodes", "-l", "type=kwok")), 60)


def ready(one: Object) -> bool:
    """Whether a node or pod reports that it is ready."""
    conditions = one.get("status", {}).get("conditions", [])
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
