"""The second and third record: what the providers' sockets received, and what store and stream contain."""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import Callable, Mapping

import asyncpg
import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging.stream import topology as topo
from messaging.stream.connection import open_connection


@attrs.frozen
class Arrival:
    """One request at a provider's socket: when (the kernel's Unix nanoseconds), for which message, taken or not.

    `denied` says that the provider broke its word: it took the message after the time from which its "not found" is
    true.
    """

    provider: str
    at_ns: int
    message_id: str
    taken: bool
    denied: bool = False


class Sockets:
    """Follows what the simulated providers received, and what `others` report: each new arrival once."""

    def __init__(self, simulators: Mapping[str, str], others: Callable[[], list[Arrival]] = list) -> None:
        self._others = others
        self._simulators = simulators
        self.arrivals: list[Arrival] = []
        self.taken: set[str] = set()
        self._read = dict.fromkeys(simulators, 0)

    async def follow(self) -> None:
        """Read new arrivals until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self.read()
            await asyncio.sleep(1)

    async def read(self) -> None:
        """Read the arrivals since the last call."""
        for name, url in self._simulators.items():
            lines = (await asyncio.to_thread(_get, f"{url}/_requests?after={self._read[name]}")).splitlines()
            self._read[name] += len(lines)
            for line in lines:
                one = json.loads(line)
                self._note(Arrival(name, one["at_ns"], one["reference"], one["taken"]))
        for arrival in self._others():
            self._note(arrival)

    def _note(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        if arrival.taken:
            self.taken.add(arrival.message_id)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return bytes(answer.read())


@attrs.frozen
class Stored:
    """A message in the store: its state (the number), the sequence of its last event, and its attempts' outcomes.

    `lane` is its first lane; messages of a lane are drawn in the order of their `place`.
    """

    state: int
    version: int
    outcomes: tuple[int, ...]
    lane: str = ""
    place: int = 0


@attrs.frozen
class Moment:
    """One event of a message in the store; `at` is Unix seconds."""

    sequence: int
    state: int
    at: float
    accepted: bool


@attrs.frozen
class History:
    """What store and stream contain, by message id; `newest` is the stream's last event: (sequence, state)."""

    stored: Mapping[str, Stored]
    moments: Mapping[str, list[Moment]]
    newest: Mapping[str, tuple[int, int]]


async def read_history(database_url: str, nats_url: str) -> History:
    """Read store and stream."""
    stored, moments = await _read_store(database_url)
    return History(stored, moments, await _read_stream(nats_url))


async def _read_store(url: str) -> tuple[dict[str, Stored], dict[str, list[Moment]]]:
    connection = await asyncpg.connect(url)
    outcomes: dict[str, list[int]] = {}
    moments: dict[str, list[Moment]] = {}
    accepted: set[tuple[str, int]] = set()
    try:
        for row in await connection.fetch("select message_id, number, outcome from attempts order by 1, 2"):
            outcomes.setdefault(str(row["message_id"]), []).append(row["outcome"])
            if row["outcome"] == pb.ATTEMPT_OUTCOME_ACCEPTED:
                accepted.add((str(row["message_id"]), row["number"]))
        query = "select message_id, sequence, state, time, attempt_number from events order by message_id, sequence"
        for row in await connection.fetch(query):
            name = str(row["message_id"])
            ended = row["state"] == pb.MESSAGE_STATE_SENT and (name, row["attempt_number"]) in accepted
            moments.setdefault(name, []).append(Moment(row["sequence"], row["state"], row["time"].timestamp(), ended))
        rows = await connection.fetch(
            "select message_id, state, version, first_provider, command, accept_sequence from messages"
        )
    finally:
        await connection.close()
    stored = {
        (name := str(row["message_id"])): Stored(
            row["state"],
            row["version"],
            tuple(outcomes.get(name, ())),
            f"{row['first_provider']}/{wire.Command.FromString(row['command'] or b'').priority}",
            row["accept_sequence"] or 0,
        )
        for row in rows
    }
    return stored, moments


async def _read_stream(url: str) -> dict[str, tuple[int, int]]:
    newest: dict[str, tuple[int, int]] = {}
    async with open_connection(url, "checker") as connection:
        left = int((await connection.api(f"STREAM.INFO.{topo.EVENT}"))["state"]["messages"])
        subscription = await connection.client.jetstream().subscribe("sms.event.>", ordered_consumer=True)
        while left > 0:
            msg = await subscription.next_msg(timeout=20)
            event = wire.Event.FromString(msg.data)
            newest[event.message_id] = (msg.metadata.sequence.stream, event.state)
            left -= 1
        await subscription.unsubscribe()
    return newest
