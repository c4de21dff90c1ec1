import copy
import re
from typing import Any

import attrs
import pytest

from messaging.model import LATER, Lane, new_address, parse_address
from messaging.runtime.config import Settings
from messaging.stream import topology as topo

ADDRESS = new_address("default", 1_700_000_000_000, "7abc8123456789abcdef")
STREAMS = {stream.name: stream for stream in topo.streams(Settings(), ["alpha", "beta-2"])}


def matches(pattern: str, subject: str) -> bool:
    """Say whether a NATS filter matches a subject."""
    regex = re.escape(pattern).replace(r"\*", r"[^.]+").replace(">", ".+")
    return re.fullmatch(regex, subject) is not None


def transform(source: str, destination: str, subject: str) -> str | None:
    """Map a subject as nats-server does; None when the source does not match."""
    if not matches(source, subject):
        return None
    pairs = zip(source.split("."), subject.split("."), strict=True)
    wildcards = [token for pattern, token in pairs if pattern == "*"]
    return re.sub(r"\{\{wildcard\((\d)\)\}\}", lambda found: wildcards[int(found[1]) - 1], destination)


def copied(source: str, subject: str) -> list[str]:
    """Return every subject at which the queue's sources store a message of `source`."""
    origins = {origin["name"]: origin["subject_transforms"] for origin in STREAMS[topo.SEND].config["sources"]}
    mapped = (transform(one["src"], one["dest"], subject) for one in origins[source])
    return [one for one in mapped if one is not None]


# Subjects


@pytest.mark.parametrize("lane", list(Lane))
def test_accepted_message_is_copied_into_its_providers_lane_once(lane: Lane) -> None:
    accepted = topo.accept_subject("beta-2", lane, ADDRESS)
    assert copied(topo.ACCEPT, accepted) == [topo.send_subject("beta-2", lane, ADDRESS)]


def test_scheduled_message_is_not_copied_before_its_time() -> None:
    assert copied(topo.ACCEPT, topo.accept_subject("alpha", LATER, ADDRESS)) == []
    assert copied(topo.LATER_STREAM, topo.later_subject(ADDRESS)) == []


@pytest.mark.parametrize("lane", list(Lane))
def test_schedule_that_fires_is_copied_into_the_lane_once(lane: Lane) -> None:
    due = topo.due_subject("alpha", lane, ADDRESS)
    assert copied(topo.LATER_STREAM, due) == [topo.send_subject("alpha", lane, ADDRESS)]


SUBJECTS = {
    topo.accept_subject("alpha", Lane.OTP, ADDRESS): topo.ACCEPT,
    topo.accept_subject("alpha", LATER, ADDRESS): topo.ACCEPT,
    topo.send_subject("alpha", Lane.BULK, ADDRESS): topo.SEND,
    topo.event_subject(ADDRESS): topo.EVENT,
    topo.later_subject(ADDRESS): topo.LATER_STREAM,
    topo.due_subject("alpha", Lane.NORMAL, ADDRESS): topo.LATER_STREAM,
    topo.dlq_subject("alpha", "exhausted", ADDRESS): topo.DLQ,
}


@pytest.mark.parametrize(("subject", "owner"), SUBJECTS.items())
def test_subject_belongs_to_one_stream_and_holds_the_address(subject: str, owner: str) -> None:
    owners = {
        name for name, stream in STREAMS.items() if any(matches(one, subject) for one in stream.config["subjects"])
    }
    assert owners == {owner}
    assert parse_address(subject) == ADDRESS


def test_filters_of_an_acceptance_match_it_for_every_provider_and_lane_and_for_no_other_client() -> None:
    for provider in ("alpha", "beta-2"):
        for lane in (*Lane, LATER):
            subject = topo.accept_subject(provider, lane, ADDRESS)
            assert matches(topo.accept_key_filter(ADDRESS.client, ADDRESS.key), subject)
            assert matches(topo.accept_filter(ADDRESS), subject)
    stranger = topo.accept_subject("alpha", Lane.OTP, attrs.evolve(ADDRESS, client="other"))
    assert not matches(topo.accept_key_filter(ADDRESS.client, ADDRESS.key), stranger)


# Streams and consumers


def test_every_lane_of_every_provider_has_one_consumer_and_none_overlap() -> None:
    consumers = STREAMS[topo.SEND].consumers
    subjects = [topo.send_subject(provider, lane, ADDRESS) for provider in ("alpha", "beta-2") for lane in Lane]
    for subject in subjects:
        assert len([one for one in consumers.values() if matches(one["filter_subject"], subject)]) == 1
    assert len(consumers) == len(subjects)


def test_no_consumer_stops_delivering_a_message() -> None:
    for stream in STREAMS.values():
        for name, config in stream.consumers.items():
            assert config["max_deliver"] == -1, name
            assert config["ack_policy"] == "explicit", name


def test_queued_and_scheduled_messages_never_expire() -> None:
    assert not STREAMS[topo.SEND].config.get("allow_msg_ttl")
    assert not STREAMS[topo.SEND].config.get("max_age")
    assert not STREAMS[topo.LATER_STREAM].config.get("max_age")
    assert STREAMS[topo.LATER_STREAM].config.get("max_bytes", -1) == -1


def test_acceptances_expire_after_the_window_and_are_refused_when_full() -> None:
    config = STREAMS[topo.ACCEPT].config
    assert config["max_age"] == 86_400 * topo.NANOS
    assert (config["discard"], config["max_msgs_per_subject"], config["allow_msg_ttl"]) == ("new", 1, True)


def test_what_a_stream_sources_is_created_before_it() -> None:
    order = list(STREAMS)
    for origin in STREAMS[topo.SEND].config["sources"]:
        assert order.index(origin["name"]) < order.index(topo.SEND)


def test_replicas_are_those_of_the_settings_everywhere() -> None:
    settings = Settings(servers=attrs.evolve(Settings().servers, replicas=3))
    assert {stream.config["num_replicas"] for stream in topo.streams(settings, ["alpha"])} == {3}


# Differences


def live(name: str = topo.ACCEPT, **changes: Any) -> dict[str, Any]:
    """Return a live configuration: the wanted one, with what a server adds and some changes."""
    config = copy.deepcopy({**STREAMS[name].config, "max_consumers": -1, "deny_delete": False})
    return {**config, **changes}


def found(name: str = topo.ACCEPT, **changes: Any) -> dict[str, bool]:
    """Return each field that differs, and whether changing it loses data."""
    wanted = STREAMS[name].config
    return {one.field: one.loses_data for one in topo.differences(live(name, **changes), wanted)}


@pytest.mark.parametrize("name", list(STREAMS))
def test_stream_as_wanted_does_not_differ(name: str) -> None:
    assert found(name) == {}


@pytest.mark.parametrize("name", list(STREAMS))
def test_field_that_the_server_leaves_out_has_its_zero_value(name: str) -> None:
    wanted = STREAMS[name].config
    sparse = {key: value for key, value in wanted.items() if value not in (False, 0, -1)}
    assert topo.differences(sparse, wanted) == []


DAY = 86_400 * topo.NANOS


@pytest.mark.parametrize(
    ("name", "changes", "loses_data"),
    [
        (topo.ACCEPT, {"num_replicas": 3}, False),
        (topo.ACCEPT, {"allow_msg_ttl": False}, False),
        (topo.ACCEPT, {"discard": "old"}, False),
        (topo.ACCEPT, {"max_age": DAY // 2}, False),  # more is kept than before
        (topo.ACCEPT, {"max_age": DAY * 2}, True),  # less is kept than before
        (topo.ACCEPT, {"max_age": 0}, True),  # an end where there was none
        (topo.ACCEPT, {"max_bytes": 1000}, False),
        (topo.ACCEPT, {"storage": "memory"}, True),
        (topo.ACCEPT, {"retention": "interest"}, True),
        (topo.ACCEPT, {"subjects": ["sms.accept.>", "other"]}, True),
        (topo.ACCEPT, {"max_msgs_per_subject": -1}, True),
        (topo.SEND, {"retention": "limits"}, True),
        (topo.SEND, {"sources": []}, True),
    ],
)
def test_difference_loses_data_when_changing_it_could_delete(
    name: str,
    changes: dict[str, Any],
    loses_data: bool,  # noqa: FBT001
) -> None:
    assert found(name, **changes) == {next(iter(changes)): loses_data}


def test_size_limit_that_shrinks_loses_data_and_one_that_grows_does_not() -> None:
    def judge(before: int, after: int) -> bool:
        (one,) = topo.differences({"max_bytes": before}, {"max_bytes": after})
        return one.loses_data

    assert judge(1000, 999)
    assert judge(-1, 1000)
    assert not judge(1000, 2000)
    assert not judge(1000, -1)


def test_sources_are_compared_by_name_and_transforms_only() -> None:
    sources = copy.deepcopy(STREAMS[topo.SEND].config["sources"])
    for source in sources:
        source["opt_start_seq"] = 1
        source["external"] = None
    assert found(topo.SEND, sources=sources) == {}
    sources[0]["subject_transforms"] = sources[0]["subject_transforms"][:2]
    assert found(topo.SEND, sources=sources) == {"sources": True}


def test_difference_says_both_values() -> None:
    (one,) = topo.differences(live(storage="memory"), STREAMS[topo.ACCEPT].config)
    assert str(one) == "storage is 'memory', wanted 'file'"
