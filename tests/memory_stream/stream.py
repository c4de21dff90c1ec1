"""The server's state: the streams of the topology, the copying from one into another, and timed actions."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from tests.memory_stream.agenda import Agenda
from tests.memory_stream.faults import NotKnown, ServerError
from tests.memory_stream.log import Log, Message
from tests.memory_stream.queue import Queue
from tests.memory_stream.subjects import transform

SOURCE_LAG_S = 0.001
"""How long a message takes from one stream into another."""


class MemoryStream:
    """A server with the streams of the topology; several connections may use it.

    `clock` returns Unix seconds and must move with the event loop's clock. With `made` False there are no streams until
    the set-up creates them.
    """

    def __init__(
        self,
        settings: Settings,
        providers: Iterable[str],
        clock: Callable[[], float],
        *,
        made: bool = True,
    ) -> None:
        self.agenda = Agenda(clock)
        self.logs: dict[str, Log] = {}
        self.queues: dict[str, dict[str, Queue]] = {}
        self.listeners: list[tuple[str, Callable[[str, bytes], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._known = topo.streams(settings, providers)
        for stream in self._known if made else ():
            self.make(stream.name, stream.config)
            for durable, config in stream.consumers.items():
                self.make_consumer(stream.name, durable, config)

    @property
    def size_bytes(self) -> int:
        """The size of all streams."""
        return sum(log.size_bytes for log in self.logs.values())

    def make(self, name: str, config: Mapping[str, Any]) -> Log:
        """Create a stream; it copies its sources from their beginning."""
        log = self.logs[name] = Log(name, config, self.agenda)
        self.queues[name] = {}
        for source in config.get("sources", ()):
            origin = self.logs[source["name"]]
            for message in origin.messages.values():
                self._copy(log, source, message)
            origin.stored.append(lambda message, source=source: self._copy(log, source, message))  # type: ignore[misc]
        return log

    def make_consumer(self, stream: str, durable: str, config: Mapping[str, Any]) -> Queue:
        """Create a consumer, or update the configuration of an existing one."""
        existing = self.queues[stream].get(durable)
        if existing is not None:
            existing.config.update(config)
            return existing
        queue = self.queues[stream][durable] = Queue(durable, config, self.logs[stream], self.agenda)
        return queue

    def _copy(self, log: Log, source: Mapping[str, Any], message: Message) -> None:
        origin, transforms = self.logs[source["name"]], source["subject_transforms"]

        def arrive() -> None:
            if message.sequence not in origin.messages:
                return
            for one in transforms:
                if (subject := transform(one["src"], one["dest"], message.subject)) is not None:
                    headers = {k: v for k, v in message.headers.items() if not k.startswith("Nats-Expected-")}
                    came_from = f"{origin.name} {message.sequence} {one['src']} {one['dest']} {message.subject} memory"
                    log.store(subject, message.data, {**headers, "Nats-Stream-Source": came_from})
                    return

        self.agenda.at(self.agenda.now + SOURCE_LAG_S, arrive)

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int | None:
        """Store a client's message and return its sequence; None when no stream takes it. Raises ServerError."""
        self.notify(subject, data)
        log = next((log for log in self.logs.values() if log.takes(subject)), None)
        if log is None:
            if not any(Log(one.name, one.config, self.agenda).takes(subject) for one in self._known):
                raise NotKnown(f"subject {subject}")
            return None
        return log.publish(subject, data, headers)

    def notify(self, subject: str, data: bytes) -> None:
        """Call the listeners of a subject for a client's message, whether it is stored or not."""
        loop = asyncio.get_running_loop()
        for pattern, listener in self.listeners:
            if transform(pattern, "", subject) is not None:
                loop.call_soon(listener, subject, data)

    def log(self, name: str) -> Log:
        """Return a stream; raises ServerError when it does not exist."""
        try:
            return self.logs[name]
        except KeyError:
            raise ServerError(10059, "stream not found") from None

    def queue(self, stream: str, durable: str) -> Queue:
        """Return a consumer; raises ServerError when it does not exist."""
        self.log(stream)
        try:
            return self.queues[stream][durable]
        except KeyError:
            raise ServerError(10014, "consumer not found") from None

    def settle(self) -> None:
        """Run the actions that are due, and set a timer for the next ones."""
        self.agenda.run()
        due = self.agenda.next_due
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        wait_s = max(0.0, due - self.agenda.now)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.settle()
