"""Whether the stream of `prod` holds what its providers can send for as long as events are kept."""

import re

import pytest
from rendering import Rendered, containers

from gateway_grpc.validation import MAX_TTL_S
from messaging.runtime.config import Settings, read_settings

MESSAGE_BYTES = 2_000
"""On disk, of one copy; docs/operations.md."""

UNITS = {"G": 1000**3, "Gi": 1024**3}


def size_bytes(text: str) -> float:
    found = re.fullmatch(r"(\d+)(\w+)", text)
    assert found, text
    return int(found[1]) * UNITS[found[2]]


def in_config(config: str, key: str) -> float:
    found = re.search(rf"^{key}: (\S+)$", config, re.MULTILINE)
    assert found, key
    return size_bytes(found[1])


def settings_of(manifests: Rendered) -> Settings:
    given = manifests.settings()
    return read_settings({name: value for name, value in given.items() if not name.endswith("_FILE")})


@pytest.fixture
def stream(manifests: Rendered) -> dict[str, float]:
    """The account's share of one server, what the server takes, and its disk, in bytes."""
    (files,) = [one["data"] for one in manifests.of("ConfigMap") if one["metadata"]["name"].startswith("nats-")]
    nats = manifests.one("StatefulSet", "nats")
    (claim,) = nats["spec"]["volumeClaimTemplates"]
    assert "include ./disk.conf" in files["nats.conf"]
    return {
        "account": in_config(files["size.conf"], "ACCOUNT_MAX_FILE") / nats["spec"]["replicas"],
        "server": in_config(files["disk.conf"], "max_file_store"),
        "disk": size_bytes(claim["spec"]["resources"]["requests"]["storage"]),
    }


def test_an_account_fits_its_servers_and_these_their_disks(stream: dict[str, float]) -> None:
    assert stream["account"] < stream["server"] < stream["disk"]


def test_the_stream_holds_the_events_of_the_full_rate_below_the_mark_where_accepting_stops(
    manifests: Rendered, stream: dict[str, float]
) -> None:
    settings = settings_of(manifests)
    trying_out = manifests.one("StatefulSet", "nats")["spec"]["replicas"] == 1  # nobody sends at its full rate for days
    days = 0.5 if trying_out else settings.servers.event_days
    rate = min(settings.fleet.rate_per_s, sum(one["rate_per_s"] for one in manifests.providers()))
    needed = rate * MESSAGE_BYTES * 86_400 * days
    assert needed <= stream["account"] * settings.gateway.storage_fill


def test_prod_remembers_the_events_of_every_message_for_as_long_as_it_may_be_tried(manifests: Rendered) -> None:
    # A dispatcher drops a queue entry half of this after its deadline; until then its events must be there.
    days = settings_of(manifests).servers.event_days
    assert MAX_TTL_S / 86_400 + days / 2 <= days


def test_a_server_has_memory_for_the_request_ids_of_a_day_twice(manifests: Rendered) -> None:
    settings = settings_of(manifests)
    (box,) = [one for one in containers(manifests.one("StatefulSet", "nats")) if one["name"] == "nats"]
    rate = min(settings.fleet.rate_per_s, sum(one["rate_per_s"] for one in manifests.providers()))
    assert rate * settings.gateway.window_s * 360 < size_bytes(box["resources"]["limits"]["memory"]) / 2
