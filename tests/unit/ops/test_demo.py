import pytest

from ops.demo import Arrival, compare

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("waits_s", "p50_s", "p99_s"),
    [([], 0.0, 0.0), ([2.0], 2.0, 2.0), ([1.0, 3.0], 2.0, 2.98), (range(101), 50.0, 99.0)],
)
def test_latencies_of_few_messages_are_percentiles_too(waits_s: list[float], p50_s: float, p99_s: float) -> None:
    accepted = {str(n): 100.0 for n, _ in enumerate(waits_s)}
    arrivals = [Arrival("p1", int((100 + wait) * SECOND), str(n), taken=True) for n, wait in enumerate(waits_s)]
    findings = compare(accepted, dict.fromkeys(accepted, "SENT"), arrivals)
    assert findings.latency_p50_s == pytest.approx(p50_s)
    assert findings.latency_p99_s == pytest.approx(p99_s)
    assert not findings.broken


def test_what_did_not_arrive_and_what_came_twice_are_broken_promises() -> None:
    arrivals = [Arrival("p1", SECOND, "a", taken=True), Arrival("p2", SECOND, "a", taken=True)]
    assert compare({"a": 0.0, "b": 0.0}, {"a": "SENT", "b": "QUEUED"}, arrivals).broken == [
        "1 accepted messages did not reach a provider",
        "1 messages reached a provider twice",
        "1 messages are not SENT",
    ]
