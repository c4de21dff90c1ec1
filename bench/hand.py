"""Processes that do one thing when told: a line of JSON in, a line of JSON out.

Whatever makes load, or is compared with, is a process of its own that stays through all repetitions, so that no arm
pays for imports and the measuring process never competes with what it measures.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

_LONGEST_LINE = 64 * 1024 * 1024
_STOP_S = 5.0

Work = Callable[..., Awaitable[dict[str, Any]]]


class HandFailed(Exception):
    """A hand ended or could not do what it was told."""


class Hand:
    """The teller's side of one such process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Tell it one thing and wait for the answer; raises HandFailed."""
        writer = self._process.stdin
        if writer is None:
            raise HandFailed("it has no input")
        writer.write(json.dumps(command).encode() + b"\n")
        await writer.drain()
        return await self.heard()

    async def heard(self) -> dict[str, Any]:
        """Wait for one line of it; raises HandFailed."""
        reader = self._process.stdout
        line = await reader.readline() if reader is not None else b""
        if not line:
            raise HandFailed("it ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        if problem := answer.get("problem"):
            raise HandFailed(problem)
        return answer

    async def stop(self) -> None:
        """Close its input, which ends it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def hired(module: str, *arguments: str) -> AsyncIterator[Hand]:
    """Start `python -m <module>` as a hand, wait until it is ready, and stop it at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    hand = Hand(process)
    try:
        await hand.heard()
        yield hand
    finally:
        await hand.stop()


async def serve(work: Work) -> None:
    """Say that all is ready, then do what each line on standard input says, until it ends."""
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say({"ready": True})
    while line := await reader.readline():
        _say(await work(json.loads(line)))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
