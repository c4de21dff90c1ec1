"""Runs the lanes of one process: of several, one that fails is started again, and the others go on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from messaging.runtime.backoff import Backoff
from messaging.runtime.problems import LANE_FAILED, Problems

_log = structlog.get_logger(__name__)

RunLane = Callable[[asyncio.Event], Awaitable[None]]
"""Sends one provider's messages until the event is set, then drains."""

_FAILED = (
    "{provider}: an error has ended the work of its lane, which is started again; the other providers of this process "
    "are not concerned. See `a lane has failed` in this process's log"
)
_AGAIN = Backoff(first_s=1.0, longest_s=30.0)
STEADY_S = 30.0
"""A lane that has run for so long after a failure works again."""


async def run_lanes(lanes: Mapping[str, RunLane], stopping: asyncio.Event, problems: Problems) -> None:
    """Run all lanes until `stopping`. A lane that is alone ends the process when it fails, as that starts it anew."""
    if len(lanes) == 1:
        [run] = lanes.values()
        await run(stopping)
        return
    async with asyncio.TaskGroup() as group:
        for name, run in lanes.items():
            group.create_task(_keep_running(name, run, stopping, problems.of(name)), name=f"lane-{name}")


async def _keep_running(name: str, run: RunLane, stopping: asyncio.Event, problems: Problems) -> None:
    pauses = _AGAIN.pauses()
    while not stopping.is_set():
        running = asyncio.ensure_future(run(stopping))
        try:
            await asyncio.wait({running}, timeout=STEADY_S)
            if not running.done():
                problems.clear(LANE_FAILED)
                pauses = _AGAIN.pauses()
            await running
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other providers' messages must go on
            _log.exception("a lane has failed", provider=name, error=type(exc).__name__)
            problems.report(LANE_FAILED, _FAILED.format(provider=name))
            await _pause(next(pauses), stopping)
        finally:
            running.cancel()
            await asyncio.wait({running})


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
