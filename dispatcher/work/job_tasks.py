"""The tasks of a pod's jobs: each has a name and a slot, and none takes another one down."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from dispatcher.work.job import Job
from messaging.errors import CorruptRecord, StreamDown
from messaging.stream.interface import Delivery

_log = structlog.get_logger(__name__)


class JobTasks:
    """Runs the work of jobs beside each other; `left` is called with what must be left for redelivery."""

    def __init__(self, left: Callable[[Job], None]) -> None:
        self._left = left
        self._tasks: dict[asyncio.Task[None], Job] = {}

    @property
    def at_work(self) -> set[Delivery]:
        """The deliveries whose jobs have a task now."""
        return {job.delivery for job in self._tasks.values()}

    def spawn(self, work: Coroutine[Any, Any, None], job: Job, slots: asyncio.Semaphore) -> None:
        """Begin the work of one job; its slot, which the caller has acquired, is free when it ends."""
        task = asyncio.create_task(self._guarded(work, job), name=f"job-{job.command.message_id}")
        self._tasks[task] = job

        def done(finished: "asyncio.Task[None]") -> None:
            del self._tasks[finished]
            work.close()  # or Python complains of one that was canceled before it began
            slots.release()

        task.add_done_callback(done)

    async def _guarded(self, work: Coroutine[Any, Any, None], job: Job) -> None:
        """Catch what goes wrong with one job: it is logged, and the redelivery tries again."""
        try:
            await work
        except (StreamDown, CorruptRecord) as exc:
            _log.warning("left for redelivery", message_id=job.command.message_id, error=str(exc))
            self._left(job)
        except Exception as exc:  # noqa: BLE001 - the outermost loop
            _log.exception("a job broke", message_id=job.command.message_id, error=type(exc).__name__)
            self._left(job)

    async def finish(self, within_s: float) -> int:
        """Wait for everything that is under way; gives how many are not done in time."""
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        return len(late)

    def cancel(self) -> None:
        """End what is still under way."""
        for task in self._tasks:
            task.cancel()
