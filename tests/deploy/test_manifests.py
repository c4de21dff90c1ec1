"""What hangs together in the manifests: names, labels, ports, images, secrets."""

import pytest
import yaml
from rendering import COMPONENT, K8S, Object, Rendered, containers, name_of, pod, selects, strings, version

from tests.secret_files import HAS_OPENSSL, printed

# Secrets that nobody but the owner of the provider can make.
OWNERS = "provider-"


def test_selectors_match_the_labels_of_their_pods(manifests: Rendered) -> None:
    for one in manifests.of("Deployment", "StatefulSet"):
        assert selects(one["spec"]["selector"], pod(one)["metadata"]["labels"]), name_of(one)
        chosen = [other for other in manifests.pods() if selects(one["spec"]["selector"], other)]
        assert len(chosen) == 1, f"{name_of(one)} would also take pods of others"


def test_services_reach_ports_that_pods_have(manifests: Rendered) -> None:
    for service in manifests.of("Service"):
        spec = service["spec"]
        backends = [
            one
            for one in manifests.workloads()
            if selects({"matchLabels": spec["selector"]}, pod(one)["metadata"]["labels"])
        ]
        assert len(backends) == 1, name_of(service)
        names = {
            port["name"]: port["containerPort"] for box in containers(backends[0]) for port in box.get("ports", [])
        }
        for port in spec["ports"]:
            assert port["targetPort"] in names, f"{name_of(service)}: {port}"
            assert port["port"] == names[port["targetPort"]] or service["metadata"]["name"] == "rest", name_of(service)


def test_budgets_and_scalers_speak_of_what_exists(manifests: Rendered) -> None:
    for budget in manifests.of("PodDisruptionBudget"):
        assert any(selects(budget["spec"]["selector"], labels) for labels in manifests.pods()), name_of(budget)
        assert budget["spec"] == {"maxUnavailable": 1, "selector": budget["spec"]["selector"]}, "a drain must end"
    for scaler in manifests.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = manifests.one("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], f"every apply would undo what {name_of(scaler)} did"


def test_everything_is_in_one_namespace_that_lets_in_restricted_pods_only(manifests: Rendered) -> None:
    (namespace,) = manifests.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for one in manifests.objects:
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == namespace["metadata"]["name"], name_of(one)


def test_pods_are_restricted_and_have_no_token(manifests: Rendered) -> None:
    for one in manifests.workloads():
        spec = pod(one)["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name_of(one)
        assert context["runAsUser"] > 0, name_of(one)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name_of(one)
        assert spec["automountServiceAccountToken"] is False, name_of(one)
        assert spec["enableServiceLinks"] is False, f"{name_of(one)}: variables of services would be unknown settings"
        account = manifests.one("ServiceAccount", spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False, name_of(account)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name_of(one)
        for box in containers(one):
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name_of(one)}: {box['name']}"
            resources = box["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name_of(one)
            assert "memory" in resources["limits"], name_of(one)


def test_our_image_has_one_tag_that_names_a_version_and_others_are_pinned(manifests: Rendered) -> None:
    ours = {box["image"] for _, box in manifests.ours()}
    assert len(ours) == 1, ours
    assert next(iter(ours)).endswith(f":{version()}"), "the manifests belong to this version"
    for one in manifests.workloads():
        for box in containers(one):
            _, _, tag = box["image"].rpartition(":")
            assert tag not in {"latest", box["image"]}, f"{name_of(one)}: {box['image']}"
            assert "/" in box["image"], f"{name_of(one)}: {box['image']} has no registry"


def test_no_secret_has_a_value_here(manifests: Rendered) -> None:
    assert not list(manifests.of("Secret"))
    for one in manifests.objects:
        for text in strings(one):
            assert "PRIVATE KEY" not in text, name_of(one)
            assert "password:" not in text.lower().replace("password: $", ""), name_of(one)
    for one in manifests.workloads():
        for variable in (variable for box in containers(one) for variable in box.get("env", [])):
            assert "secretKeyRef" not in variable.get("valueFrom", {}), f"{name_of(one)}: secrets come as files"


@pytest.mark.skipif(not HAS_OPENSSL, reason="certificates are made by the openssl command")
def test_secrets_that_pods_mount_are_those_that_the_script_makes(manifests: Rendered) -> None:
    made = printed()
    for one in manifests.workloads():
        for volume in pod(one)["spec"].get("volumes", []):
            if "secret" in volume and not volume["secret"]["secretName"].startswith(OWNERS):
                assert volume["secret"]["secretName"] in made, f"{name_of(one)}: {volume}"
                assert volume["secret"]["defaultMode"] == 0o440, "others on the node read nothing"
    users = {name.removeprefix("nats-") for name in made if set(made[name]) == {"password"} and name != "postgres"}
    config = (K8S / "base" / "nats" / "users.conf").read_text()
    assert users == {line.split()[1] for line in config.splitlines() if line.strip().startswith("user:")} | {"system"}


def test_every_mount_has_its_volume_and_every_volume_its_mount(manifests: Rendered) -> None:
    maps = {one["metadata"]["name"] for one in manifests.of("ConfigMap")}
    for one in manifests.workloads():
        mounted = {mount["name"] for box in containers(one) for mount in box.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in pod(one)["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        assert mounted == volumes, name_of(one)
        for volume in pod(one)["spec"].get("volumes", []):
            assert "configMap" not in volume or volume["configMap"]["name"] in maps, name_of(one)
        for box in containers(one):
            for source in box.get("envFrom", []):
                assert source["configMapRef"]["name"] in maps, name_of(one)


def test_network_policies_speak_of_pods_that_exist_and_ports_that_they_have(manifests: Rendered) -> None:
    for policy in manifests.of("NetworkPolicy"):
        spec = policy["spec"]
        assert any(selects(spec["podSelector"], labels) for labels in manifests.pods()), name_of(policy)
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                for peer in rule[side]:
                    if "podSelector" in peer and "namespaceSelector" not in peer:
                        assert any(selects(peer["podSelector"], labels) for labels in manifests.pods()), name_of(policy)
                    if direction == "egress" and set(peer) == {"podSelector"}:
                        assert_ports(manifests, peer["podSelector"], rule["ports"])
                if direction == "ingress":
                    assert_ports(manifests, spec["podSelector"], rule["ports"])


def assert_ports(manifests: Rendered, selector: Object, ports: list[Object]) -> None:
    there = {
        port["containerPort"]
        for one in manifests.workloads()
        if selects(selector, pod(one)["metadata"]["labels"])
        for box in containers(one)
        for port in box.get("ports", [])
    }
    assert {port["port"] for port in ports} <= there, (selector, ports)


def test_nothing_is_allowed_by_default_and_every_pod_has_a_policy_of_its_own(manifests: Rendered) -> None:
    default = manifests.one("NetworkPolicy", "nothing-by-default")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    named = [one["spec"]["podSelector"] for one in manifests.of("NetworkPolicy") if one["spec"]["podSelector"]]
    for labels in manifests.pods():
        assert any(selects(selector, labels) for selector in named), labels[COMPONENT]


def test_probes_name_ports_of_their_container(manifests: Rendered) -> None:
    for one in manifests.workloads():
        if one["kind"] == "Job":
            continue
        for box in containers(one):
            names = {port["name"]: port["containerPort"] for port in box.get("ports", [])}
            probes = [box[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in box]
            assert "readinessProbe" in box, f"{name_of(one)}: a roll-out could not tell when the pod works"
            for probe in probes:
                for kind in ("httpGet", "tcpSocket"):
                    assert probe.get(kind, {}).get("port", next(iter(names))) in names, name_of(one)
                assert probe.get("grpc", {}).get("port", next(iter(names.values()))) in names.values(), name_of(one)


def test_rendering_leaves_no_placeholder(manifests: Rendered) -> None:
    text = yaml.safe_dump(manifests.objects)
    assert "TODO" not in text
    assert "CHANGEME" not in text.upper()


def test_the_collector_is_told_its_exporter_by_the_name_that_stays(manifests: Rendered) -> None:
    for one in manifests.of("ConfigMap"):
        if one["metadata"]["name"].startswith("otel-collector-"):
            config = yaml.safe_load(one["data"]["collector-config.yaml"])
            assert set(config["exporters"]) == {"otlp_grpc"}, "the collector warns that `otlp` goes"


def test_the_namespace_is_made_so_that_apply_can_change_it_without_a_warning() -> None:
    made = [
        line for line in (K8S / "README.md").read_text().splitlines() if line.startswith("kubectl create namespace")
    ]
    assert made
    assert all(line.endswith(" --save-config") for line in made), "roll-out.sh applies the namespace as well"
