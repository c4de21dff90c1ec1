"""What a connection to the stream offers. Everything above is typed against this; `messaging.stream.connection` is it.

A publish answers Stored, Refused or Busy. Whatever fails raises StreamDown (nothing is known of the outcome: ask again
with the same contents), StreamFull, or ApiError where the server's API was asked.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

NOT_FOUND_CODES = frozenset({10014, 10059})
"""What an ApiError says of a consumer or a stream that does not exist."""


@attrs.frozen
class Stored:
    """The stream has it, at this sequence."""

    sequence: int


@attrs.frozen
class Refused:
    """The condition did not hold: `sequence` is the last one that stands there (0 when the server does not say)."""

    sequence: int


@attrs.frozen
class Busy:
    """Another publish under the same condition is in flight: look again in some milliseconds."""


@attrs.frozen
class Record:
    """One stored message."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


class ApiError(Exception):
    """The server's API refused a request; only set-up meets it."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"{text} ({code})")


class Delivery(Protocol):
    """One message as drawn: it is ours until it is acknowledged, given back, or silent for `ack_wait`."""

    @property
    def subject(self) -> str:
        """Where it was published."""

    @property
    def data(self) -> bytes:
        """What it holds."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with."""

    @property
    def sequence(self) -> int:
        """Where it stands in its stream."""

    @property
    def delivered(self) -> int:
        """How many times it was drawn, this time included."""

    @property
    def waiting(self) -> int:
        """How many messages wait behind it."""

    async def ack(self, budget_s: float = 10.0) -> bool:
        """Acknowledge and wait for the server's word; False when none came within `budget_s`: it may come again."""

    async def ack_lightly(self) -> None:
        """Acknowledge without waiting for the server's word: a crash may lose it, and then the message comes again."""

    async def give_back(self) -> None:
        """Let another pod have it at once."""

    async def keep(self) -> None:
        """Tell the server that work goes on."""


class Consumer(Protocol):
    """Draws from a durable pull consumer."""

    async def fetch(self, batch: int, wait_s: float = 1.0) -> list[Delivery]:
        """Draw up to `batch` messages; an empty list when none came within `wait_s` or the server is away."""

    async def close(self) -> None:
        """Stop drawing."""


class Connection(Protocol):
    """A connection that comes back by itself; `timeout_s` bounds every single request."""

    @property
    def timeout_s(self) -> float:
        """How long one request waits for its answer."""

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> Stored | Refused | Busy:
        """Publish once and wait for the stream's word; raises StreamDown when the outcome is unknown, StreamFull."""

    async def last(self, stream: str, subject: str) -> Record | None:
        """Read the newest message whose subject matches, from the leader."""

    async def at(self, stream: str, sequence: int) -> Record | None:
        """Read one message by its sequence, from the leader."""

    async def next_after(self, stream: str, sequence: int, subject: str) -> Record | None:
        """Read the first message at or after `sequence` whose subject matches, from the leader."""

    async def last_of_each(self, stream: str, subject: str) -> list[Record]:
        """Read the newest message of every subject that matches; may lag the leader by a moment."""

    async def delete(self, stream: str, sequence: int) -> bool:
        """Delete one message; False when it was gone already."""

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Call `$JS.API.<verb>`; raises ApiError with the server's refusal, StreamDown when it does not answer."""

    async def consumer(self, stream: str, durable: str) -> Consumer:
        """Draw from a durable consumer that the set-up has made; raises StreamDown."""

    def listening(self, subject: str, heard: Callable[[str, bytes], None]) -> AbstractAsyncContextManager[None]:
        """Call `heard(subject, data)` for what is published meanwhile: a hint, which may be lost or come too early."""
