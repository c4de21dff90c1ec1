"""What the written commands select of the rendered manifests."""

import re

from rendering import COMPONENT, K8S, Object, Rendered, name_of, pod, strings

NOT_IN = re.compile(r"apply -k \S+ -l '([\w./]+) notin \(([\w,]+)\)'")


def selected(manifests: Rendered, line: str) -> list[Object]:
    """The objects that kubectl would apply; as there, an object without the label is in no set."""
    found = NOT_IN.search(line)
    assert found, line
    key, values = found.groups()
    assert key == COMPONENT
    known = {one["metadata"].get("labels", {}).get(key) for one in manifests.objects}
    assert set(values.split(",")) <= known, "a component that does not exist is left out"
    return [
        one for one in manifests.objects if one["metadata"].get("labels", {}).get(key) not in set(values.split(","))
    ]


def test_lowering_a_rate_moves_the_coordinator_first_with_all_that_it_reads(manifests: Rendered) -> None:
    (line,) = [line for line in (K8S / "README.md").read_text().splitlines() if "kubectl apply -k" in line]
    chosen = selected(manifests, line)
    names = {one["metadata"]["name"] for one in chosen}
    moved = {one["metadata"]["name"] for one in chosen if one["kind"] in {"Deployment", "StatefulSet", "Job"}}
    # The others carry neither rates nor settings of ours, so that nothing of them changes.
    assert moved - {"nats", "otel-collector", "postgres", "simulator"} == {"coordinator"}
    reads = [one for one in chosen if one["kind"] == "Deployment" and one["metadata"]["name"] == "coordinator"]
    for one in manifests.of("ConfigMap"):
        if one["metadata"]["name"] in set(strings(pod(reads[0]))):
            assert one["metadata"]["name"] in names, f"the coordinator would wait for {name_of(one)}"
