"""Requests to JetStream and their answers, with one inbox and one time-out timer for all requests of a connection.

nats-py's own `request` takes twice the time (a timer and random tokens for each request), and can lose a cancellation.
"""

import asyncio
import itertools
from collections.abc import Mapping

from nats.aio.msg import Msg
from nats.errors import BadSubjectError, MaxPayloadError
from nats.errors import Error as NatsError

from messaging.errors import CorruptRecord, StreamDown
from messaging.stream.client import StreamClient
from messaging.stream.write_batching import WriteBatching

_SWEEP_S = 0.05
_NO_RESPONDERS = "503"
_NEVER_TAKEN = (BadSubjectError, MaxPayloadError)

_Answer = Msg | str
"""The server's answer, or the reason why there is none."""


class Requests:
    """Sends requests over one connection; while it is lost, a request fails at once instead of being sent later."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client
        self._prefix = client.new_inbox() + "."
        self._tokens = itertools.count()
        self._waiting: dict[str, tuple[float, asyncio.Future[_Answer]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._batching = WriteBatching()

    async def open(self) -> None:
        """Subscribe to the answers; nats-py repeats that after every reconnect."""
        await self._client.listen(self._prefix + "*", self._on_answer)

    async def request(self, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout_s: float) -> Msg:
        """Send once and wait for the answer; raises StreamDown when none comes: the outcome is unknown.

        Raises CorruptRecord when it can never be sent: it is too large, or its subject is none.
        """
        await self._batching.wait()
        loop = asyncio.get_running_loop()
        inbox = f"{self._prefix}{next(self._tokens)}"
        future: asyncio.Future[_Answer] = loop.create_future()
        self._waiting[inbox] = (loop.time() + timeout_s, future)
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_S, self._time_out)
        try:
            await self._client.publish(subject, data, inbox, headers)  # type: ignore[arg-type]  # it is only read
            answer = await future
        except _NEVER_TAKEN as exc:
            raise CorruptRecord(_shortened(subject), f"it cannot be published ({type(exc).__name__})") from exc
        except (NatsError, OSError) as exc:
            raise StreamDown(f"{type(exc).__name__} on {_shortened(subject)}") from exc
        finally:
            del self._waiting[inbox]
        if isinstance(answer, str):
            raise StreamDown(f"{answer} on {_shortened(subject)}")
        if answer.headers and answer.headers.get("Status") == _NO_RESPONDERS:
            raise StreamDown(f"no responders on {_shortened(subject)}")
        return answer

    def fail_all(self) -> None:
        """Fail every request under way: the connection was lost, and its answers with it."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_result("connection lost")

    def _on_answer(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(msg)

    def _time_out(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for end, future in self._waiting.values():
            if end <= now and not future.done():
                future.set_result("no answer in time")
        self._sweep = loop.call_later(_SWEEP_S, self._time_out) if self._waiting else None


def _shortened(subject: str) -> str:
    return ".".join(subject.split(".")[:4])
