"""Divides the process among connections: each gets its turn, however much the others ask for.

Both classes grant in a round over the connections that wait, and in order of arrival within one of them.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator

import attrs

_Waiter = asyncio.Future[None]
_PARTS = 4


@attrs.frozen
class _Size:
    chunks: int
    size_bytes: int

    def plus(self, chunks: int, size_bytes: int) -> "_Size":
        return _Size(self.chunks + chunks, self.size_bytes + size_bytes)


_NOTHING = _Size(0, 0)


class _Round:
    """Waiting futures, each with a size, by connection; the connection whose turn is longest ago comes first."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[tuple[_Waiter, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __contains__(self, connection: Hashable) -> bool:
        return connection in self._lines

    async def wait(self, connection: Hashable, size: int, undo: Callable[[], None]) -> None:
        """Wait until granted; `undo` takes back what was granted to a task that was cancelled at that moment."""
        waiter = asyncio.get_running_loop().create_future()
        self._lines.setdefault(connection, deque()).append((waiter, size))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                undo()
            raise

    def heads(self) -> Iterator[tuple[Hashable, _Waiter, int]]:
        """Yield the first that waits of each connection, in the order of their turns."""
        for connection, line in list(self._lines.items()):
            while line and line[0][0].done():
                line.popleft()
            if line:
                yield connection, *line[0]
            else:
                del self._lines[connection]

    def grant(self, connection: Hashable, waiter: _Waiter) -> None:
        """Let the first of a connection go on; the connection's turn is over."""
        line = self._lines.pop(connection)
        line.popleft()
        if line:
            self._lines[connection] = line
        waiter.set_result(None)


class Turns:
    """Lets at most `at_once` pieces of work be in progress, and begins only some in each cycle of the event loop.

    So the loop gets to everything else, such as single calls, after so many pieces at the latest. `each_cycle` says how
    many may begin in the next cycle.
    """

    def __init__(self, at_once: int, each_cycle: Callable[[], int]) -> None:
        self._free = at_once
        self._each_cycle = each_cycle
        self._left = each_cycle()
        self._waiting = _Round()
        self._scheduled = False

    async def begin(self, connection: Hashable) -> None:
        """Wait for the turn of a piece of work; `end` must follow."""
        if self._free and self._left and not self._waiting:
            self._free -= 1
            self._left -= 1
            self._schedule()
            return
        self._schedule()
        await self._waiting.wait(connection, 1, self.end)

    def end(self) -> None:
        """Say that a piece of work has ended."""
        self._free += 1
        if self._waiting:
            self._schedule()

    @contextlib.asynccontextmanager
    async def turn(self, connection: Hashable) -> AsyncIterator[None]:
        """Do a piece of work in its turn."""
        await self.begin(connection)
        try:
            yield
        finally:
            self.end()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._cycle)

    def _cycle(self) -> None:
        self._scheduled = False
        self._left = self._each_cycle()
        while self._left and self._free and self._waiting:
            for connection, waiter, _ in self._waiting.heads():
                self._free -= 1
                self._left -= 1
                self._waiting.grant(connection, waiter)
                if not (self._left and self._free):
                    break
        if self._free and self._waiting:
            self._schedule()


class Workload:
    """Lets at most so many chunks, and bytes of chunks, be at work, and a quarter of them from one connection.

    A chunk that is larger than its connection's part goes alone.
    """

    def __init__(self, chunks: int, size_bytes: int) -> None:
        self._free = _Size(chunks, size_bytes)
        self._part = _Size(max(1, chunks // _PARTS), max(1, size_bytes // _PARTS))
        self._held: dict[Hashable, _Size] = {}
        self._waiting = _Round()
        self._rooms: dict[Hashable, asyncio.Event] = {}

    async def room(self, connection: Hashable) -> None:
        """Wait while chunks of this connection wait: until then the next one stays with the caller, by flow control."""
        if connection in self._rooms:
            await self._rooms[connection].wait()

    @contextlib.asynccontextmanager
    async def hold(self, connection: Hashable, size_bytes: int) -> AsyncIterator[None]:
        """Work on a chunk, once there is room for it."""
        size_bytes = min(size_bytes, self._part.size_bytes)
        if self._waiting or not self._fits(connection, size_bytes):
            self._rooms.setdefault(connection, asyncio.Event())
            await self._waiting.wait(connection, size_bytes, lambda: self._release(connection, size_bytes))
        else:
            self._take(connection, size_bytes)
        try:
            yield
        finally:
            self._release(connection, size_bytes)

    def _fits(self, connection: Hashable, size_bytes: int) -> bool:
        held = self._held.get(connection, _NOTHING)
        return (
            self._free.chunks > 0
            and self._free.size_bytes >= size_bytes
            and held.chunks < self._part.chunks
            and held.size_bytes + size_bytes <= self._part.size_bytes
        )

    def _take(self, connection: Hashable, size_bytes: int) -> None:
        self._free = self._free.plus(-1, -size_bytes)
        self._held[connection] = self._held.get(connection, _NOTHING).plus(1, size_bytes)

    def _release(self, connection: Hashable, size_bytes: int) -> None:
        self._free = self._free.plus(1, size_bytes)
        self._held[connection] = self._held[connection].plus(-1, -size_bytes)
        if not self._held[connection].chunks:
            del self._held[connection]
        for other, waiter, wanted_bytes in self._waiting.heads():
            if self._fits(other, wanted_bytes):
                self._take(other, wanted_bytes)
                self._waiting.grant(other, waiter)
        for other in [one for one in self._rooms if one not in self._waiting]:
            self._rooms.pop(other).set()
