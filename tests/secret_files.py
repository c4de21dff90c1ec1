"""The Secrets of deploy/k8s/secrets.sh as the files that pods would see, and a nats-server behind them."""

import base64
import pathlib
import shutil
import subprocess

import yaml

from messaging.stream.access import Access
from ops.embedded import NatsServer

K8S = pathlib.Path(__file__).parents[1] / "deploy" / "k8s"
HAS_OPENSSL = shutil.which("openssl") is not None
USERS = ("gateway", "dispatcher", "coordinator", "projector", "setup", "operator")


def printed(namespace: str = "test", **environment: str) -> dict[str, dict[str, bytes]]:
    """What the script makes: every Secret's keys and contents."""
    script = ["sh", str(K8S / "secrets.sh"), namespace]
    text = subprocess.run(
        script, check=True, capture_output=True, text=True, env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment}
    ).stdout
    return {
        one["metadata"]["name"]: {key: base64.b64decode(value) for key, value in one["data"].items()}
        for one in yaml.safe_load_all(text)
    }


def laid_out(root: pathlib.Path) -> pathlib.Path:
    """Write every Secret as a folder of files below `root`, as mounts would show them; gives the folder of folders."""
    folder = root / "run" / "secrets"
    for name, files in printed().items():
        for key, data in files.items():
            path = folder / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def guarded_server(root: pathlib.Path) -> NatsServer:
    """A server with the manifests' users and TLS, its Secrets below `root`."""
    secrets = root / "run" / "secrets"
    folder = root / "etc" / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(K8S / "base" / "nats" / "users.conf", folder)
    (folder / "size.conf").write_text("ACCOUNT_MAX_FILE: 1G\n")
    tls = secrets / "nats-tls"
    config = (
        f'tls {{ cert_file: "{tls}/tls.crt", key_file: "{tls}/tls.key", ca_file: "{tls}/ca.crt", timeout: 5 }}\n'
        "include ./users.conf\n"
    )
    return NatsServer(folder, extra_config=config)


def access(secrets: pathlib.Path, user: str) -> Access:
    """What a process with this user would connect with."""
    return Access(user, str(secrets / f"nats-{user}" / "password"), str(secrets / "nats-ca" / "ca.crt"))
