"""Agents: separate processes that run commands, each a line of JSON in and a line of JSON out.

The load, and everything that we compare with, runs in agents that live through all repetitions. So no arm includes the
time of imports, and the measuring process does not compete with what it measures.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

_MAX_LINE_BYTES = 64 * 1024 * 1024
_STOP_S = 5.0

Work = Callable[..., Awaitable[dict[str, Any]]]


class AgentFailed(Exception):
    """An agent ended, or could not run a command."""


class Agent:
    """The controlling side of one agent."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and return the answer; raises AgentFailed."""
        writer = self._process.stdin
        if writer is None:
            raise AgentFailed("it has no input")
        writer.write(json.dumps(command).encode() + b"\n")
        await writer.drain()
        return await self.receive()

    async def receive(self) -> dict[str, Any]:
        """Wait for one line of output; raises AgentFailed."""
        reader = self._process.stdout
        line = await reader.readline() if reader is not None else b""
        if not line:
            raise AgentFailed("it ended; its error output is above")
        answer: dict[str, Any] = json.loads(line)
        if problem := answer.get("problem"):
            raise AgentFailed(problem)
        return answer

    async def stop(self) -> None:
        """End the process by closing its input; kills it when that takes too long."""
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
async def start_agent(module: str, *arguments: str, **environment: str) -> AsyncIterator[Agent]:
    """Run `python -m <module>` as an agent inside the context; enters when it is ready.

    What contains a password goes into `environment`: every user of the machine can read the arguments.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
    )
    agent = Agent(process)
    try:
        await agent.receive()
        yield agent
    finally:
        await agent.stop()


async def serve(work: Work) -> None:
    """Report that the agent is ready, then run the command on each line of standard input, until it ends."""
    reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _write({"ready": True})
    while line := await reader.readline():
        _write(await work(json.loads(line)))


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
