"""The interface of a connection to the stream, which `messaging.stream.connection` implements.

A publish returns Stored, Refused or Busy. Methods raise StreamDown (the outcome is unknown: repeat the request with the
same contents), StreamFull, or ApiError when the server's API refuses a request.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

NOT_FOUND_CODES = frozenset({10014, 10059})
"""The codes of an ApiError for a consumer or a stream that does not exist."""


@attrs.frozen
class Stored:
    """The stream has stored it, at this sequence."""

    sequence: int


@attrs.frozen
class Refused:
    """The condition did not hold: the last sequence is `sequence` (0 when there is none or the server does not say)."""

    sequence: int


@attrs.frozen
class Busy:
    """Another publish under the same condition is in flight: try again in some milliseconds."""


@attrs.frozen
class Record:
    """One stored message."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


class ApiError(Exception):
    """The server's API refused a request; `code` is its err_code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"{text} ({code})")


class Delivery(Protocol):
    """One delivery of a message: ours until it is acknowledged, given back, or `ack_wait` passes without `keep`."""

    @property
    def subject(self) -> str:
        """The subject it was published on."""

    @property
    def data(self) -> bytes:
        """The message's bytes."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with."""

    @property
    def sequence(self) -> int:
        """Its sequence in the stream."""

    @property
    def delivered(self) -> int:
        """How many times it was delivered, this delivery included."""

    @property
    def waiting(self) -> int:
        """How many messages wait behind it."""

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge until the server confirms; False when it has not within `budget_s`: it may be redelivered."""

    async def ack_lightly(self) -> None:
        """Acknowledge without a confirmation: if a crash loses it, the message is redelivered."""

    async def give_back(self) -> None:
        """Have the message redelivered at once, to any pod (a negative acknowledgement)."""

    async def keep(self) -> None:
        """Restart the ack wait: work on the message goes on."""


class Consumer(Protocol):
    """Fetches from a durable pull consumer."""

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Fetch up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""

    def interrupt(self) -> None:
        """Let a running fetch return now; messages that its request still brings come with the next fetch."""

    async def finish(self) -> None:
        """Ask for nothing more: a running fetch returns with what has arrived. Ends a fetch that waits for long."""

    async def close(self) -> None:
        """Stop fetching."""


class Connection(Protocol):
    """A connection that reconnects by itself; `timeout_s` is the time-out of every request."""

    @property
    def timeout_s(self) -> float:
        """How many seconds a request waits for its answer."""

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> Stored | Refused | Busy:
        """Publish once and wait for the acknowledgement; raises StreamFull, StreamDown when the outcome is unknown.

        Raises CorruptRecord when repeating it is of no use, because the server will never take it.
        """

    async def last(self, stream: str, subject: str) -> Record | None:
        """Read the newest message whose subject matches, from the stream's leader; None when there is none."""

    async def at(self, stream: str, sequence: int) -> Record | None:
        """Read one message by its sequence, from the stream's leader; None when there is none."""

    async def next_after(self, stream: str, sequence: int, subject: str) -> Record | None:
        """Read the first matching message at or after `sequence`, from the stream's leader; None when there is none."""

    async def last_of_each(self, stream: str, subject: str) -> list[Record]:
        """Read the newest message of every subject that matches; may lag behind the leader by a moment."""

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False when it was already gone."""

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError when the server refuses, StreamDown when it does not answer."""

    async def consumer(self, stream: str, durable: str) -> Consumer:
        """Open a durable consumer, which the set-up has created, to fetch from it; waits for the connection."""

    def listening(self, subject: str, notify: Callable[[str, bytes], None]) -> AbstractAsyncContextManager[None]:
        """Call `notify(subject, data)` for each publish meanwhile; may be lost, or come before the data is stored."""
