"""The REST endpoints: every call that HTTP can carry has one, and Envoy serves what the proto says."""

import re

import yaml
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from rendering import K8S, Rendered
from sms.gateway.v1 import gateway_pb2

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["SmsGatewayService"]
REST = K8S / "components" / "rest"


def bindings(rule):
    return [rule, *rule.additional_bindings]


def path_of(rule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    return kind, getattr(rule, kind)


def test_every_call_but_the_two_way_stream_has_an_endpoint_of_its_own() -> None:
    seen = []
    for method in SERVICE.methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        if method.client_streaming:
            assert not rule.WhichOneof("pattern"), "JSON over HTTP carries no stream from a caller"
            continue
        for one in bindings(rule):
            kind, path = path_of(one)
            assert path.startswith("/v1/"), method.name
            for field in re.findall(r"{(\w+)}", path):
                assert field in method.input_type.fields_by_name, f"{method.name}: {field}"
            assert one.body in {"", "*", *method.input_type.fields_by_name}, method.name
            assert (kind == "post") == (bool(one.body) or path.endswith(":cancel")), method.name
            seen.append((kind, re.sub(r"{\w+}", "{}", path)))
    assert len(seen) == len(set(seen))
    assert ("post", "/v1/messages") in seen
    assert ("get", "/v1/messages/{}") in seen


def test_the_descriptors_that_envoy_loads_are_whole() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString((REST / "api.binpb").read_bytes())
    names = {file.name for file in files.file}
    for file in files.file:
        assert set(file.dependency) <= names, file.name
    # Without it Envoy could not write the details of an error as JSON.
    assert "google/rpc/error_details.proto" in names


def test_envoy_serves_our_service_and_reaches_the_gateway(manifests: Rendered) -> None:
    config = yaml.safe_load((REST / "envoy.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (transcoder,) = [one["typed_config"] for one in manager["http_filters"] if one["name"].endswith("transcoder")]
    assert transcoder["services"] == [SERVICE.full_name]
    assert transcoder["proto_descriptor"] == "/etc/envoy/api.binpb"
    *streaming, rest = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert rest["match"] == {"prefix": f"/{SERVICE.full_name}/"}
    assert rest["route"]["timeout"] == "15s"
    endless = {one["match"]["path"] for one in streaming if one["route"]["timeout"] == "0s"}
    streams = {one.name for one in SERVICE.methods if one.server_streaming and not one.client_streaming}
    assert endless == {f"/{SERVICE.full_name}/{name}" for name in streams}, "a growing answer would be cut"
    (cluster,) = config["static_resources"]["clusters"]
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    service = manifests.one("Service", address["address"])
    assert address["port_value"] in {port["port"] for port in service["spec"]["ports"]}
    assert cluster["health_checks"][0]["grpc_health_check"]["service_name"] == SERVICE.full_name
    listens = listener["address"]["socket_address"]["port_value"]
    (box,) = manifests.one("Deployment", "rest")["spec"]["template"]["spec"]["containers"]
    assert listens in {port["containerPort"] for port in box["ports"]}
    (files,) = [one for one in manifests.of("ConfigMap") if one["metadata"]["name"].startswith("rest-")]
    assert {"envoy.yaml", "api.binpb"} == set(files["data"]) | set(files["binaryData"])
