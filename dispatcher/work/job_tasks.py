"""The tasks of a pod's jobs: each has a name and a slot, and the failure of one does not end another."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from dispatcher.work.job import Job
from messaging.errors import CorruptRecord, StreamDown
from messaging.stream.interface import Delivery

_log = structlog.get_logger(__name__)


class JobTasks:
    """Runs jobs concurrently.

    `on_failure` is called with each job that is left for redelivery, `on_corrupt` with each that redelivery cannot
    help, because its record or its last event makes no sense, and why.
    """

    def __init__(self, on_failure: Callable[[Job], None], on_corrupt: Callable[[Job, str], Awaitable[None]]) -> None:
        self._on_failure = on_failure
        self._on_corrupt = on_corrupt
        self._tasks: dict[asyncio.Task[None], Job] = {}

    @property
    def running(self) -> set[Delivery]:
        """The deliveries whose jobs have a task now."""
        return {job.delivery for job in self._tasks.values()}

    def spawn(self, work: Coroutine[Any, Any, None], job: Job, slots: asyncio.Semaphore) -> None:
        """Start a task for one job. The caller has acquired a slot; it is released when the task ends."""
        task = asyncio.create_task(self._guarded(work, job), name=f"job-{job.command.message_id}")
        self._tasks[task] = job

        def done(finished: "asyncio.Task[None]") -> None:
            del self._tasks[finished]
            work.close()  # or Python complains of one that was canceled before it began
            slots.release()

        task.add_done_callback(done)

    async def _guarded(self, work: Coroutine[Any, Any, None], job: Job) -> None:
        """Log any error of one job and leave the message for redelivery, which tries again, or for an operator."""
        try:
            await self._unless_corrupt(work, job)
        except StreamDown as exc:
            _log.warning("left for redelivery", message_id=job.command.message_id, error=str(exc))
            self._on_failure(job)
        except Exception as exc:  # noqa: BLE001 - the outermost loop
            _log.exception("a job failed", message_id=job.command.message_id, error=type(exc).__name__)
            self._on_failure(job)

    async def _unless_corrupt(self, work: Coroutine[Any, Any, None], job: Job) -> None:
        try:
            await work
        except CorruptRecord as exc:
            _log.error("a message goes to the dead letters", message_id=job.command.message_id, error=str(exc))
            await self._on_corrupt(job, exc.why)

    async def wait(self, within_s: float) -> int:
        """Wait for the running tasks; return how many are still running after `within_s`."""
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        return len(late)

    def cancel(self) -> None:
        """Cancel the tasks that are still running."""
        for task in self._tasks:
            task.cancel()
