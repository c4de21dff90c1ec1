"""Several lanes in one process: one that fails is started again, and the others notice nothing."""

import asyncio
from unittest import mock

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from dispatcher import __main__ as command
from dispatcher import app
from dispatcher.lanes import STEADY_S, run_lanes
from messaging.errors import ConfigError
from messaging.runtime.problems import Problems
from messaging.runtime.providers_file import Provider
from tests.unit.virtual_time import in_virtual_time


class Lane:
    """Runs until it is told to stop; the first `failures` runs fail after `after_s`."""

    def __init__(self, failures: int = 0, after_s: float = 1.0) -> None:
        self.starts = 0
        self.drained = False
        self.running = False
        self._failures = failures
        self._after_s = after_s

    async def run(self, stopping: asyncio.Event) -> None:
        self.starts += 1
        self.running = True
        try:
            if self.starts <= self._failures:
                await asyncio.sleep(self._after_s)
                raise ValueError("a text that might be private")
            await stopping.wait()
            self.drained = True
        finally:
            self.running = False


@in_virtual_time
async def test_lane_that_fails_is_started_again_and_the_others_go_on() -> None:
    bad, good, stopping, problems = Lane(failures=2), Lane(), asyncio.Event(), Problems()
    running = asyncio.create_task(run_lanes({"bad": bad.run, "good": good.run}, stopping, problems))
    with capture_logs() as lines:
        await asyncio.sleep(1.5)
        assert [one.key for one in problems] == ["LANE_FAILED.bad"]
        assert problems.blocking
        assert "bad" in next(iter(problems)).detail
        assert "private" not in next(iter(problems)).detail
        await asyncio.sleep(STEADY_S + 5)
    assert not list(problems)
    assert (bad.starts, good.starts) == (3, 1)
    assert [line["provider"] for line in lines if line["event"] == "a lane has failed"] == ["bad", "bad"]
    stopping.set()
    await running
    assert bad.drained
    assert good.drained


@in_virtual_time
async def test_lane_that_keeps_failing_is_started_less_and_less_often() -> None:
    bad, stopping = Lane(failures=1000, after_s=0.0), asyncio.Event()
    running = asyncio.create_task(run_lanes({"bad": bad.run, "good": Lane().run}, stopping, Problems()))
    await asyncio.sleep(600)
    assert 20 <= bad.starts <= 30
    stopping.set()
    await asyncio.wait_for(running, 0.1)


@in_virtual_time
async def test_lane_that_is_alone_ends_its_process_when_it_fails() -> None:
    with pytest.raises(ValueError, match="private"):
        await run_lanes({"p1": Lane(failures=1).run}, asyncio.Event(), Problems())


@in_virtual_time
async def test_no_lane_goes_on_when_the_process_is_cancelled() -> None:
    lanes = {"p1": Lane(), "p2": Lane()}
    running = asyncio.create_task(run_lanes({n: one.run for n, one in lanes.items()}, asyncio.Event(), Problems()))
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait({running})
    assert not any(one.running for one in lanes.values())


def test_problems_of_one_provider_neither_hide_nor_end_those_of_another() -> None:
    problems = Problems()
    for name in ("p1", "p2"):
        problems.of(name).report("NO_SHARE", f"{name} has no share")
    problems.of("p1").clear("NO_SHARE")
    problems.clear("NO_SHARE")
    assert [(one.key, one.detail) for one in problems] == [("NO_SHARE.p2", "p2 has no share")]
    problems.of("p2").clear("NO_SHARE")
    assert not problems.blocking


PROVIDERS = [Provider(name, "simulated", "http://localhost") for name in ("p1", "p2", "p3")]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(None, ["p1", "p2", "p3"]), (["p2"], ["p2"]), (["p3", "p1", "p3"], ["p3", "p1"])],
    ids=["all", "one", "several, each once"],
)
def test_named_providers_are_found_in_the_file(names: list[str] | None, chosen: list[str]) -> None:
    assert [one.name for one in app._chosen(names, PROVIDERS)] == chosen


def test_every_name_that_is_not_in_the_file_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        app._chosen(["p9", "p1", "p8"], PROVIDERS)
    assert [text.partition(" ")[0] for _, text in caught.value.faults] == ["p9", "p8"]
    assert "there are p1, p2, p3" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "keys_of"),
    [
        (["--provider", "p1"], ["p1"]),
        (["--provider", "p1,p2"], ["p1", "p2"]),
        (["--provider", "p1", "--provider", " p2, "], ["p1", "p2"]),
        (["--all"], None),
    ],
)
def test_process_reads_the_keys_of_the_providers_that_it_serves(
    arguments: list[str], keys_of: list[str] | None
) -> None:
    with mock.patch.object(command, "run_process", return_value=0) as run:
        assert CliRunner().invoke(command.main, ["work", *arguments]).exit_code == 0
    assert run.call_args.kwargs["keys_of"] == keys_of
    assert run.call_args.args[1].keywords == {"names": keys_of}


@pytest.mark.parametrize("arguments", [[], ["--all", "--provider", "p1"], ["--provider", ","]])
def test_nothing_or_everything_twice_is_refused(arguments: list[str]) -> None:
    found = CliRunner().invoke(command.main, ["work", *arguments])
    assert found.exit_code == 2
    assert "--provider, or take --all" in found.output
