"""One client's view of the memory stream: what `messaging.stream.connection` offers, with faults to order.

Every operation gives way to other tasks before and after its effect, and tells `at_step` about both moments:
`before publish sms.event`, `after publish sms.event`, … What that raises happens there: a Crash ends the process, a
StreamDown before the effect means that it never came to be, one after it that the answer is lost.
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
    """Let every step happen."""


class MemoryConnection:
    """`cut` makes everything fail until `mend`; `busy` answers so many publishes with Busy; `kill` is the end of it."""

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
        """Whether the server can be reached now."""
        return self._connected

    def cut(self) -> None:
        """Lose the server; what it had been asked for is lost with it."""
        self._connected = False
        for consumer in self._consumers:
            consumer.lose()

    def mend(self) -> None:
        """Find the server again."""
        self._connected = True

    def kill(self) -> None:
        """End the process that this connection belongs to: nothing of it has an effect any more."""
        self._alive = False
        self.cut()

    async def step(self, name: str) -> None:
        """Give way, then let happen what was ordered for this step; raises StreamDown, Crash."""
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
        """Have an effect on the server and wait for its answer; one that is lost is waited for in vain."""
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
        """Publish once and wait for the stream's word; raises StreamDown when the outcome is unknown, StreamFull."""

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
        """Delete one message; False when it was gone already."""
        try:
            answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiError:
            return False
        return bool(answer["success"])

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError with the server's refusal, StreamDown when it does not answer."""

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
        """Draw from a durable consumer that the set-up has made."""
        consumer = MemoryConsumer(self, stream, durable)
        self._consumers.append(consumer)
        return consumer

    @contextlib.asynccontextmanager
    async def listening(self, subject: str, heard: Callable[[str, bytes], None]) -> AsyncIterator[None]:
        """Call `heard(subject, data)` for what is published meanwhile."""
        await self.step(f"before listening {subject}")

        def told(where: str, data: bytes) -> None:
            if self._connected:
                heard(where, data)

        ear = (subject, told)
        self.stream.listeners.append(ear)
        try:
            yield
        finally:
            self.stream.listeners.remove(ear)


def _record(message: Message) -> Record:
    return Record(message.subject, message.sequence, message.data, dict(message.headers))
