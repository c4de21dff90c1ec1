"""What an attack is judged by: each bound that is broken is named, and a busy machine is no verdict."""

import json

import pytest

from tests.load.hostile.attackers import KINDS
from tests.load.hostile.payloads import full_chunk, large, malformed, many_empty_messages, refused_chunk
from tests.load.hostile.run import FULL, SHORT, TOO_BUSY, Attack, Finding, _judge, _NormalCaller

ATTACK = Attack("flood", 100, 0.0, 0.25, 100)
REFUSED = {"INVALID_ARGUMENT": 100}


def judged(
    answers: dict[str, int] | None = None,
    seconds: float = 0.01,
    *,
    calls: int = 100,
    failed: int = 0,
    peak: float = 1.0,
    starved: float = 0.0,
) -> Finding:
    caller = _NormalCaller(None, [seconds] * calls, ["UNAVAILABLE"] * failed)  # type: ignore[arg-type]
    return _judge(ATTACK, REFUSED if answers is None else answers, caller, peak, starved)


def test_an_attack_that_nobody_notices_breaks_nothing() -> None:
    assert judged().broken == []
    assert "held" in judged().line()


@pytest.mark.parametrize(
    ("finding", "sentence"),
    [
        (judged(seconds=0.3), "p99 of normal calls is 300 ms, over 250"),
        (judged(seconds=0.3, starved=0.5), f"{TOO_BUSY}: the gateway waited 50% of the time for a processor"),
        (judged(calls=3), "3 normal calls were answered, 0 failed"),
        (judged(failed=1), "100 normal calls were answered, 1 failed"),
        (judged(peak=101.0), "memory grew by 101 MiB, over 100"),
        (judged({}), "attackers got no answers, or wrong ones"),
        (judged({"UNKNOWN": 1, "INVALID_ARGUMENT": 99}), "attackers got no answers, or wrong ones"),
        (judged({"OK": 1}), "attackers got no answers, or wrong ones"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_bound_that_is_broken_is_named(finding: Finding, sentence: str) -> None:
    assert finding.broken == [sentence]
    assert sentence in finding.line()


def test_every_attack_has_its_attacker() -> None:
    assert {one.kind for one in FULL} == set(KINDS)
    assert {one.kind for one in SHORT} < set(KINDS)


def test_payloads_are_as_large_as_they_say() -> None:
    assert 3_900_000 < len(full_chunk(4_000_000)) <= 4_000_000
    assert len(many_empty_messages(4_000_000)) == 4_000_000
    assert len(refused_chunk()) < 10_000
    assert min(len(raw) for _, raw in large(30_000)) >= 30_000
    assert json.dumps([name for name, _ in malformed(1)]) == json.dumps([name for name, _ in malformed(1)])
