"""A connection to the memory stream, with the interface of `messaging.stream.connection` and faults to inject.

Every operation lets other tasks run before and after its effect, and calls `at_step` both times, with a name such as
`before publish sms.event` or `after publish sms.event`. What `at_step` raises is the fault: a Crash ends the process, a
StreamDown before the effect prevents it, and a StreamDown after it loses the answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from messaging.errors import StreamDown, StreamFull
from messaging.stream import topology as topo
from messaging.stream.interface import ApiError, Busy, Record, Refused, Stored
from tests.memory_stream import api
from tests.memory_stream.consumer import MemoryConsumer
from tests.memory_stream.faults import Crash, NotKnown, ServerError
from tests.memory_stream.log import Message
from tests.memory_stream.stream import MemoryStream

_T = TypeVar("_T")
_WRONG_SEQUENCE, _FULL = 10071, 10077


def _go_on(_step: str) -> None:
    """Inject no fault."""


class MemoryConnection:
    """After `cut` everything fails until `mend`; `busy` is how many publishes to answer with Busy; `kill` is final."""

    def __init__(
        self, stream: MemoryStream, at_step: Callable[[str], None] = _go_on, *, timeout_s: float = 2.5
    ) -> None:
        self.stream = stream
        self.timeout_s = timeout_s
        self.busy = 0
        self._at_step = at_step
        self._connected = True
        self._alive = True
        self._consumers: list[MemoryConsumer] = []

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return self._connected

    def cut(self) -> None:
        """Lose the connection, and the fetch requests under way with it."""
        self._connected = False
        for consumer in self._consumers:
            consumer.lose()

    def mend(self) -> None:
        """Restore the connection."""
        self._connected = True

    def kill(self) -> None:
        """End the process that this connection belongs to: none of its operations has an effect after this."""
        self._alive = False
        self.cut()

    async def step(self, name: str) -> None:
        """Let other tasks run, then inject the fault of this step, if any; raises StreamDown, Crash."""
        await asyncio.sleep(0)
        if not self._alive:
            raise Crash(name)
        if not self._connected:
            raise StreamDown(f"disconnected on {name}")
        try:
            self._at_step(name)
        except Crash:
            self.kill()
            raise
        self.stream.settle()

    async def do(self, name: str, effect: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """Apply an effect to the server and return its answer; a lost answer is waited for until the time-out."""
        await self.step(f"before {name}")
        answer = effect()
        self.stream.settle()
        try:
            await self.step(f"after {name}")
        except StreamDown:
            if self._connected:
                await asyncio.sleep(self.timeout_s if timeout_s is None else timeout_s)
            raise
        return answer

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> Stored | Refused | Busy:
        """Publish once and wait for the acknowledgement; raises StreamFull, StreamDown when the outcome is unknown."""

        def effect() -> Stored | Refused | Busy | StreamDown | StreamFull:
            if self.busy and topo.H_EXPECTED in (headers or {}):
                self.busy -= 1
                return Busy()
            try:
                sequence = self.stream.publish(subject, data, headers or {})
            except ServerError as exc:
                if exc.code == _WRONG_SEQUENCE:
                    return Refused(int(exc.text.rpartition(":")[2]))
                if exc.code == _FULL:
                    return StreamFull(subject.split(".")[1])
                return StreamDown(f"publish refused with {exc.code}")
            return StreamDown(f"no responders on {subject}") if sequence is None else Stored(sequence)

        place = ".".join(subject.split(".")[:2])
        answer = await self.do(f"publish {place}", effect, timeout_s)
        if isinstance(answer, StreamDown | StreamFull):
            raise answer
        return answer

    async def last(self, stream: str, subject: str) -> Record | None:
        """Read the newest message whose subject matches."""
        return await self._read("last", stream, lambda: self.stream.log(stream).last(subject))

    async def at(self, stream: str, sequence: int) -> Record | None:
        """Read one message by its sequence."""
        return await self._read("at", stream, lambda: self.stream.log(stream).messages.get(sequence))

    async def next_after(self, stream: str, sequence: int, subject: str) -> Record | None:
        """Read the first message at or after `sequence` whose subject matches."""

        def found() -> Message | None:
            return next((one for one in self.stream.log(stream).matching(subject) if one.sequence >= sequence), None)

        return await self._read("next_after", stream, found)

    async def _read(self, how: str, stream: str, find: Callable[[], Message | None]) -> Record | None:
        def effect() -> Message | StreamDown | None:
            try:
                return find()
            except ServerError as exc:
                return StreamDown(f"reading {stream} was refused with {exc.code}")

        found = await self.do(f"{how} {stream}", effect)
        if isinstance(found, StreamDown):
            raise found
        return None if found is None else _record(found)

    async def last_of_each(self, stream: str, subject: str) -> list[Record]:
        """Read the newest message of every subject that matches."""
        if not self.stream.log(stream).config.get("allow_direct"):
            raise NotKnown(f"direct reads of {stream}")
        found = await self.do(f"last_of_each {stream}", lambda: self.stream.log(stream).last_of_each(subject))
        return [_record(one) for one in found]

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False when it was already gone."""
        try:
            answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiError:
            return False
        return bool(answer["success"])

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError when the server refuses, StreamDown when it does not answer."""

        def effect() -> dict[str, Any] | ServerError:
            try:
                return api.answer(self.stream, verb, body or {})
            except ServerError as exc:
                return exc

        answer = await self.do(f"api {verb}", effect, timeout_s)
        if isinstance(answer, ServerError):
            raise ApiError(answer.code, answer.text)
        return answer

    async def consumer(self, stream: str, durable: str) -> MemoryConsumer:
        """Open a durable consumer, which the set-up has created, to fetch from it."""
        consumer = MemoryConsumer(self, stream, durable)
        self._consumers.append(consumer)
        return consumer

    @contextlib.asynccontextmanager
    async def listening(self, subject: str, notify: Callable[[str, bytes], None]) -> AsyncIterator[None]:
        """Call `notify(subject, data)` for each publish meanwhile."""
        await self.step(f"before listening {subject}")

        def notify_connected(published: str, data: bytes) -> None:
            if self._connected:
                notify(published, data)

        listener = (subject, notify_connected)
        self.stream.listeners.append(listener)
        try:
            yield
        finally:
            self.stream.listeners.remove(listener)


def _record(message: Message) -> Record:
    return Record(message.subject, message.sequence, message.data, dict(message.headers))
