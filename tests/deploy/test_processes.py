"""What the manifests tell our processes is what these understand."""

import pathlib
import re
import shlex

import attrs
import pytest
from rendering import COMPONENT, K8S, PROVIDER, Rendered, containers, environment, name_of, pod
from sms.gateway.v1 import gateway_pb2

from gateway_grpc import server
from messaging.model import Lane
from messaging.runtime import config
from messaging.runtime import health as dispatcher_health
from messaging.runtime.config import Settings, read_settings
from messaging.runtime.providers_file import parse_providers
from messaging.stream import topology as topo

# A child of the drain that must end before the kubelet loses its patience.
MARGIN_S = 5


def read(manifests: Rendered, seen: dict[str, str], folder: pathlib.Path) -> Settings:
    """Read what a container sees, each file that it names standing in a folder of the test."""
    own = {key: value for key, value in seen.items() if key.startswith("SMSGW_")}
    for key, path in own.items():
        if key.endswith("_FILE"):
            stand_in = folder / pathlib.Path(path).name
            stand_in.write_text("postgresql://u@h/d" if "DATABASE" in key else "x")
            own[key] = str(stand_in)
    return read_settings(own)


def test_every_variable_is_a_setting_and_every_value_is_understood(manifests: Rendered, tmp_path: pathlib.Path) -> None:
    for one, box in manifests.ours():
        seen = environment(box, manifests.settings())
        settings = read(manifests, seen, tmp_path)
        assert len(seen) > 3 or one["kind"] == "Job" or "simulator" in name_of(one), name_of(one)
        if settings.servers.nats_user:
            assert settings.servers.nats_ca_file, f"{name_of(one)} would speak to the stream in the open"


def test_files_that_settings_name_are_mounted(manifests: Rendered) -> None:
    variables = {field.metadata["variable"] for _, kind in config.groups() for field in attrs.fields(kind)}
    for one, box in manifests.ours():
        mounts = [mount["mountPath"] for mount in box.get("volumeMounts", [])]
        for key, value in environment(box, manifests.settings()).items():
            if key.endswith("_FILE"):
                assert any(value.startswith(f"{mount}/") for mount in mounts), f"{name_of(one)}: {key} is at {value}"
                assert key in variables or key.removesuffix("_FILE") in variables


def test_each_process_has_its_own_user_of_the_stream(manifests: Rendered) -> None:
    for one, box in manifests.ours():
        user = environment(box, manifests.settings()).get("SMSGW_NATS_USER")
        if user is None:
            continue
        assert user == pod(one)["metadata"]["labels"][COMPONENT], name_of(one)
        secrets = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod(one)["spec"]["volumes"]
            if "secret" in volume
        }
        assert secrets["nats"] == f"nats-{user}", name_of(one)


def test_commands_exist(manifests: Rendered) -> None:
    from dispatcher.__main__ import main as dispatcher
    from ops.cli import COMMANDS

    for one, box in manifests.ours():
        words = [*box.get("command", []), *box.get("args", [])]
        if words[0] == "smsctl":
            assert words[1] in COMMANDS, name_of(one)
        else:
            assert words[0] == "-m", name_of(one)
            assert words[1] in {"gateway_grpc", "dispatcher", "ops.simulator"}, shlex.join(words)
            assert words[1] != "dispatcher" or words[2] in dispatcher.commands, shlex.join(words)


def test_processes_listen_where_they_are_probed_and_probes_ask_for_names_that_health_knows(manifests: Rendered) -> None:
    services = {one.full_name for one in gateway_pb2.DESCRIPTOR.services_by_name.values()}
    known = {
        "SMSGW_LISTEN": services | {server.ALIVE},
        "SMSGW_HEALTH_LISTEN": {dispatcher_health.READY, dispatcher_health.ALIVE},
    }
    for one, box in manifests.ours():
        seen = environment(box, manifests.settings())
        for probe in (
            box[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if "grpc" in box.get(kind, {})
        ):
            (variable,) = [key for key in known if key in seen]
            assert seen[variable].rpartition(":")[2] == str(probe["grpc"]["port"]), name_of(one)
            assert probe["grpc"].get("service", "") in known[variable], name_of(one)
        if "livenessProbe" in box and "grpc" in box["livenessProbe"]:
            alive = box["livenessProbe"]["grpc"]["service"]
            assert alive == server.ALIVE == dispatcher_health.ALIVE, (
                "who is killed while the stream is away helps nobody"
            )


def test_grace_is_longer_than_what_a_process_does_when_it_is_told_to_stop(
    manifests: Rendered, tmp_path: pathlib.Path
) -> None:
    for one, box in manifests.ours():
        if "SMSGW_NATS_USER" not in environment(box, manifests.settings()) or one["kind"] == "Job":
            continue
        drain_s = read(manifests, environment(box, manifests.settings()), tmp_path).process.drain_s
        before_s = box.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod(one)["spec"]["terminationGracePeriodSeconds"] >= before_s + drain_s + MARGIN_S, name_of(one)
        if pod(one)["metadata"]["labels"][COMPONENT] == "dispatcher":
            assert drain_s > max(table.get("timeout_s", 10) for table in manifests.providers()) + 1, (
                "a call would be cut"
            )


def test_a_lane_is_never_without_a_pod_while_it_is_rolled(manifests: Rendered) -> None:
    for one in manifests.of("Deployment"):
        component = pod(one)["metadata"]["labels"][COMPONENT]
        if component in {"gateway", "dispatcher", "coordinator", "rest"}:
            assert one["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, name_of(one)


def test_callers_by_name_know_the_new_gateway_before_an_old_one_ends(manifests: Rendered) -> None:
    grpc_asks_again_s, dns_remembers_s = 30, 5
    spec = manifests.one("Deployment", "gateway")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] >= grpc_asks_again_s + dns_remembers_s


def test_every_provider_has_its_lane_and_every_lane_its_provider(manifests: Rendered) -> None:
    wanted = {table["name"] for table in manifests.providers()}
    lanes = [one for one in manifests.of("Deployment") if pod(one)["metadata"]["labels"][COMPONENT] == "dispatcher"]
    assert sorted(pod(one)["metadata"]["labels"][PROVIDER] for one in lanes) == sorted(wanted)
    for one in lanes:
        provider = pod(one)["metadata"]["labels"][PROVIDER]
        assert one["metadata"]["name"] == f"dispatcher-{provider}"
        (box,) = containers(one)
        assert box["args"][-2:] == ["--provider", "$(PROVIDER)"]
        (source,) = [variable["valueFrom"] for variable in box["env"] if variable["name"] == "PROVIDER"]
        assert source["fieldRef"]["fieldPath"] == f"metadata.labels['{PROVIDER}']"
        (volume,) = [volume for volume in pod(one)["spec"]["volumes"] if volume["name"] == "provider"]
        assert volume["secret"]["secretName"] == f"provider-{provider}", "only its own keys"


def test_the_providers_file_is_understood_and_asks_for_keys_where_they_are_mounted(manifests: Rendered) -> None:
    document = {"provider": manifests.providers()}
    parse_providers(document, {}, keys_of=())
    for table in manifests.providers():
        for where in table.get("secrets", {}).values():
            assert where["file"].startswith("/run/secrets/provider/"), table["name"]


def test_the_stream_has_as_many_servers_as_copies_of_it_and_the_processes_know_all(manifests: Rendered) -> None:
    servers = manifests.one("StatefulSet", "nats")
    settings = manifests.settings()
    count = servers["spec"]["replicas"]
    assert int(settings["SMSGW_REPLICAS"]) == count
    service = servers["spec"]["serviceName"]
    urls = [f"tls://nats-{index}.{service}:4222" for index in range(count)]
    assert settings["SMSGW_NATS_URL"].split(",") == urls
    (files,) = [one["data"] for one in manifests.of("ConfigMap") if one["metadata"]["name"].startswith("nats-")]
    assert re.findall(r"nats-route://(\S+?):6222", files["cluster.conf"]) == (
        [f"nats-{index}.{service}" for index in range(count)] if count > 1 else []
    )


def test_scalers_watch_consumers_that_exist(manifests: Rendered) -> None:
    names = [table["name"] for table in manifests.providers()]
    consumers = {name for stream in topo.streams(Settings(), names) for name in stream.consumers}
    scalers = list(manifests.of("ScaledObject"))
    for scaler in scalers:
        watched = [trigger["metadata"] for trigger in scaler["spec"]["triggers"]]
        provider = scaler["metadata"]["labels"][PROVIDER]
        assert {one["consumer"] for one in watched} == {topo.dispatch_consumer(provider, lane) for lane in Lane}
        assert {one["consumer"] for one in watched} <= consumers
        assert {(one["account"], one["stream"]) for one in watched} == {("SMS", topo.SEND)}
    assert not scalers or len(scalers) == len(names)


def test_rules_speak_of_streams_and_consumers_that_exist(manifests: Rendered) -> None:
    names = [table["name"] for table in manifests.providers()]
    streams = topo.streams(Settings(), names)
    consumers = {name for stream in streams for name in stream.consumers}
    text = " ".join(
        rule["expr"]
        for one in manifests.of("PrometheusRule")
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    )
    assert set(re.findall(r'stream_name="(\w+)"', text)) <= {stream.name for stream in streams}
    for pattern in re.findall(r'consumer_name=~"([^"]+)"', text):
        assert any(re.fullmatch(pattern, name) for name in consumers), pattern
    deployments = {one["metadata"]["name"] for one in manifests.of("Deployment")}
    for pattern in re.findall(r'deployment=~?"([^"]+)"', text):
        assert any(re.fullmatch(pattern, name) for name in deployments), pattern


@pytest.mark.parametrize("user", ["gateway", "dispatcher", "coordinator", "projector", "setup"])
def test_permissions_speak_of_streams_and_consumers_that_exist(user: str) -> None:
    text = (K8S / "base" / "nats" / "users.conf").read_text()
    block = text.split(f"user: {user}\n")[1].split("\n      }")[0]
    streams = topo.streams(Settings(), ["p1"])
    names = {stream.name for stream in streams}
    for stream, consumer in re.findall(r"\$JS\.(?:API\.CONSUMER\.MSG\.NEXT|ACK)\.(\w+)\.([\w*>-]+)", block):
        (found,) = [one for one in streams if one.name == stream]
        assert consumer in {*found.consumers, "*", ">"}, consumer
    for stream in re.findall(r"\.(?:GET|DELETE|LIST|STEPDOWN)\.(\w+)", block):
        assert stream in names, stream
    assert f'"_INBOX.{user}.>"' in block
