"""A real node next to the control plane: containerd, kubelet, kube-proxy, the CNI plugin ptp, and CoreDNS."""

import contextlib
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

import yaml

from tools.k8s_cluster.commands import Failed, run, say, wait
from tools.k8s_cluster.plane import NODE_IP, Object, Plane, ready

NODE = "node-1"
PODS = "10.244.0.0/24"
DNS_IP = "10.96.0.10"
_CONTROLLERS = pathlib.Path("/sys/fs/cgroup")
_SYSCTLS = [
    pathlib.Path("/proc/sys", name)
    for name in (
        *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
        *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
    )
]
"""Kernel settings that a kubelet changes for the whole machine; restored afterwards."""


def _containerd(folder: pathlib.Path) -> str:
    return f"""version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # For root without CAP_SYS_RESOURCE, as in many virtual machines.
  restrict_oom_score_adj = true
  max_container_log_line_size = -1
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _kubelet(folder: pathlib.Path) -> Object:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "resolvConf": str(folder / "resolv.conf"),
        "podLogsDir": str(folder / "logs"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": False,
    }


def _proxy(folder: pathlib.Path) -> Object:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(folder / "proxy.conf")},
        "hostnameOverride": NODE,
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def _network(folder: pathlib.Path) -> Object:
    ranges = [[{"subnet": PODS}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(folder / "ipam")}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}],
    }


def start(plane: Plane, images: pathlib.Path) -> None:
    """Start the node; returns when it is ready, has the images of the archive, and resolves names."""
    folder = plane.folder
    (folder / "cni").mkdir()
    (folder / "resolv.conf").write_text("")
    (folder / "containerd.toml").write_text(_containerd(folder))
    (folder / "cni" / "pods.conflist").write_text(json.dumps(_network(folder)))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(folder)))
    (folder / "proxy.yaml").write_text(yaml.safe_dump(_proxy(folder)))
    plane.spawn("containerd", f"--config={folder}/containerd.toml")
    wait("containerd", lambda: bool(_ctr(plane, "version")), 60)
    load(plane, images)
    plane.spawn(
        "kubelet",
        f"--config={folder}/kubelet.yaml",
        f"--kubeconfig={folder}/node.conf",
        f"--root-dir={folder}/kubelet",
        f"--cert-dir={folder}/kubelet-certificates",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_IP}",
        "--node-labels=topology.kubernetes.io/zone=a",
    )
    plane.spawn("kube-proxy", f"--config={folder}/proxy.yaml")
    wait(f"{NODE} ready", lambda: any(ready(one) for one in plane.get("nodes") if one["metadata"]["name"] == NODE), 120)
    _names(plane)
    (node,) = [one for one in plane.get("nodes") if one["metadata"]["name"] == NODE]
    info = node["status"]["nodeInfo"]
    say(f"node: kubelet {info['kubeletVersion']}, {info['containerRuntimeVersion']}, kube-proxy by nftables, CoreDNS")


def _ctr(plane: Plane, *words: str) -> str:
    return run("ctr", f"--address={plane.folder}/containerd.sock", "--namespace=k8s.io", *words)


def load(plane: Plane, archive: pathlib.Path) -> None:
    """Load the images of an archive into the node."""
    _ctr(plane, "images", "import", str(archive))


def unmounted_disk(plane: Plane, claim: str, size: str) -> None:
    """Create a volume that is never mounted, for pods that kwok only simulates."""
    _offer(plane, claim, size, {"hostPath": {"path": "/unmounted"}})


def disk(plane: Plane, claim: str, size: str) -> None:
    """Create a volume on the node's disk for a claim NAMESPACE/NAME: a `local` volume, which gets the pod's fsGroup."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="disk-", dir=plane.folder))
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]
    place = {"local": {"path": str(path)}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}
    _offer(plane, claim, size, place)


def _offer(plane: Plane, claim: str, size: str, place: Object) -> None:
    namespace, _, name = claim.partition("/")
    plane.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"generateName": f"{name}-"},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": namespace, "name": name},
                **place,
                "persistentVolumeReclaimPolicy": "Retain",
            },
        }
    )


def _names(plane: Plane) -> None:
    """Run CoreDNS as every cluster does: in kube-system, with the label that our NetworkPolicy selects."""
    corefile = ".:53 {\n errors\n health :8080\n ready :8181\n kubernetes cluster.local {\n  ttl 5\n }\n}\n"
    here = {"namespace": "kube-system", "name": "coredns"}
    labels = {"k8s-app": "kube-dns"}
    reads = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    box = {
        "name": "coredns",
        "image": "localhost/coredns:1",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "containers": [box],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    ports = [{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP"}]
    rbac = "rbac.authorization.k8s.io"
    plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": reads},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", **here}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": {"Corefile": corefile}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "kube-system", "name": "kube-dns"},
            "spec": {"clusterIP": DNS_IP, "selector": labels, "ports": ports},
        },
    )
    plane.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s", within_s=130)


def remove_pods(plane: Plane) -> None:
    """Stop the controllers, so that no pod is created again; then end every pod and the remaining containers."""
    plane.end("kwok", "kube-controller-manager", "kube-scheduler")
    with contextlib.suppress(Failed):
        plane.kubectl("delete", "pods", "--all-namespaces", "--all", "--now", "--wait=false")
    with contextlib.suppress(Failed):
        wait("an end of the pods", lambda: not plane.get("pods", "--all-namespaces"), 60)
    plane.end("kubelet")
    with contextlib.suppress(Failed):
        for line in _ctr(plane, "tasks", "list").splitlines()[1:]:
            with contextlib.suppress(Failed):
                _ctr(plane, "tasks", "delete", "--force", line.split()[0])


@contextlib.contextmanager
def restored_machine(folder: pathlib.Path) -> Iterator[None]:
    """Restore what a node changes on its machine at the end: kernel settings, mounts, cgroups."""
    before = {path: path.read_text() for path in _SYSCTLS}
    try:
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)
        for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], capture_output=True, check=False)  # noqa: S603, S607
        for controller in _CONTROLLERS.iterdir():
            groups = [one for one in (controller / "kubepods").rglob("*") if one.is_dir()]
            for group in [*sorted(groups, reverse=True), controller / "kubepods"]:
                with contextlib.suppress(OSError):
                    group.rmdir()
