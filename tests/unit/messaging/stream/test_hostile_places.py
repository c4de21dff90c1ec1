"""The hostile records lie under every subject that the topology names."""

from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from tests.hostile_records import an_address, keys, places
from tests.memory_stream.subjects import transform


def test_hostile_records_lie_under_every_subject_and_in_every_consumer_and_bucket() -> None:
    subjects = [subject_of(an_address(1e9)) for subject_of in places().values()]
    subjects += [f"$KV.{bucket}.{key}" for bucket, names in keys().items() for key in names]
    patterns: list[str] = []
    for stream in topo.streams(Settings(), ["p1"]):
        patterns += stream.config["subjects"]
        patterns += [one["filter_subject"] for one in stream.consumers.values()]
    missed = [pattern for pattern in patterns if not any(_takes(pattern, subject) for subject in subjects)]
    assert not missed


def _takes(pattern: str, subject: str) -> bool:
    return transform(pattern, "", subject) is not None
