"""Each planted bug is found by its line of the checker. `make chaos-short` is a run without bugs."""

import pathlib

from tests.load.chaos.plan import Fault
from tests.load.chaos.run import Run, run

KILLS = [
    *(Fault(1.5 + n / 2, "kill", f"dispatcher-p{n + 1}-1", 0.3) for n in range(5)),
    *(Fault(5.5 + n / 2, "kill", f"dispatcher-p{n + 1}-1", 0.3) for n in range(5)),
]
PAUSES = [Fault(1.0 + n / 10, "pause", f"dispatcher-p{n + 1}-1", 6.0) for n in range(5)]


async def broken(folder: pathlib.Path, wanted: Run, faults: list[Fault]) -> set[str]:
    """Run, and return the promises that were broken."""
    report = await run(wanted, folder / (wanted.plant or "clean"), print, faults)
    return {one.name.partition(" (")[0] for one in report.findings if one.broken}


async def test_each_planted_bug_is_found_by_its_line(open_folder: pathlib.Path) -> None:
    wanted = Run(300, seed=5, plant="drop-an-ack,forget-requests,skip-a-row", pods=1, ttl_s=6, patience_s=2, ahead_s=4)
    lines = {"accepted and missing", "one request, two messages", "store and stream disagree"}
    assert lines <= await broken(open_folder, wanted, [])


async def test_dropped_message_and_backward_transition_are_found(open_folder: pathlib.Path) -> None:
    wanted = Run(300, seed=5, plant="forget-a-message,go-backward", pods=1, ttl_s=6, patience_s=2, ahead_s=4)
    lines = {"without a final state after the deadline", "moved backward"}
    assert lines <= await broken(open_folder, wanted, [])


async def test_dropped_message_that_the_sweeper_ends_is_reported(open_folder: pathlib.Path) -> None:
    report = await run(Run(600, seed=5, plant="drop-an-entry", pods=1, ttl_s=12), open_folder / "dropped", print, [])
    counts = {one.name: one.count for one in report.findings}
    assert counts["expired untried, overtaken by half of its time"] > 0


async def test_look_up_that_is_believed_too_early_is_found(open_folder: pathlib.Path) -> None:
    wanted = Run(400, seed=5, plant="believe-a-no", pods=1, ttl_s=20, patience_s=2, ahead_s=4, strangers=2)
    moods = [Fault(0.2, "mood", name, 4.0, "works-late") for name in ("s1", "s2")]
    assert "received twice without being a one-time code" in await broken(open_folder, wanted, moods)


async def test_window_that_is_too_wide_is_found_by_the_record_of_a_stranger(open_folder: pathlib.Path) -> None:
    wanted = Run(600, seed=5, plant="double-the-share", pods=1, ttl_s=15, patience_s=2, ahead_s=4, strangers=2)
    assert {"above the limit of s1", "above the limit of s2"} <= await broken(open_folder, wanted, [])


async def test_redelivery_treated_as_new_is_found(open_folder: pathlib.Path) -> None:
    wanted = Run(300, seed=5, plant="forget-a-redelivery", pods=1, ttl_s=12, patience_s=0)
    assert "received twice although the answer had been recorded" in await broken(open_folder, wanted, [])


async def test_attempts_without_a_marker_are_found_when_pods_are_killed(open_folder: pathlib.Path) -> None:
    wanted = Run(700, seed=5, plant="skip-the-marker", pods=1, ttl_s=15, patience_s=2, ahead_s=4, latency_s=0.5)
    assert "received twice without an unclear attempt" in await broken(open_folder, wanted, KILLS)


async def test_paused_pod_that_sends_after_its_lease_has_ended_is_found(open_folder: pathlib.Path) -> None:
    wanted = Run(2400, seed=5, plant="stale-lease", pods=2, ttl_s=20, patience_s=4)
    assert "above the fleet's limit" in await broken(open_folder, wanted, PAUSES)
