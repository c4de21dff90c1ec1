"""One stream: its messages by sequence, the conditions for storing one, and the limits that remove one."""

import re
import time
from calendar import timegm
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs

from messaging.stream import topology as topo
from tests.memory_stream.agenda import Agenda
from tests.memory_stream.faults import NotKnown, ServerError
from tests.memory_stream.subjects import is_pattern, matches

_WRONG_SEQUENCE, _TTL_DISABLED, _BAD_SCHEDULE, _BAD_TTL = 10071, 10166, 10189, 10165
_NO_ROOM = 10077
_ROLLUP = "Nats-Rollup"
_KNOWN = {
    topo.H_EXPECTED,
    topo.H_EXPECTED_SUBJECT,
    topo.H_TTL,
    topo.H_SCHEDULE,
    topo.H_SCHEDULE_TARGET,
    topo.H_SCHEDULE_TTL,
}
_DURATION = re.compile(r"(\d+)(h|m|s)?")
_UNITS = {"h": 3600, "m": 60, "s": 1, None: 1}


@attrs.frozen
class Message:
    """One stored message; `time` is Unix seconds."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]
    time: float

    @property
    def size_bytes(self) -> int:
        """Its size in the server's file."""
        lines = sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        return 30 + len(self.subject) + len(self.data) + (lines + 16 if lines else 0)


class Log:
    """A stream's messages; the callbacks in `stored` and `removed` are called for each one that is stored or removed.

    While `stalled`, no schedule fires, as on a server whose account was full.
    """

    def __init__(self, name: str, config: Mapping[str, Any], agenda: Agenda) -> None:
        self.name = name
        self.config = dict(config)
        self.created = agenda.now
        self.messages: dict[int, Message] = {}
        self.last_sequence = 0
        self.size_bytes = 0
        self.stalled = False
        self.stored: list[Callable[[Message], None]] = []
        self.removed: list[Callable[[Message], None]] = []
        self._of_subject: dict[str, list[int]] = defaultdict(list)
        self._agenda = agenda

    def takes(self, subject: str) -> bool:
        """Whether this stream stores what is published on a subject."""
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    def matching(self, pattern: str) -> Iterator[Message]:
        """Return the messages that match a pattern, oldest first."""
        if not is_pattern(pattern):
            yield from (self.messages[sequence] for sequence in self._of_subject.get(pattern, ()))
            return
        yield from (message for message in self.messages.values() if matches(pattern, message.subject))

    def last(self, pattern: str) -> Message | None:
        """Return the newest message that matches a pattern."""
        if not is_pattern(pattern):
            sequences = self._of_subject.get(pattern)
            return self.messages[sequences[-1]] if sequences else None
        return next((one for one in reversed(self.messages.values()) if matches(pattern, one.subject)), None)

    def last_of_each(self, pattern: str) -> list[Message]:
        """Return the newest message of each subject that matches a pattern, oldest first."""
        return sorted({one.subject: one for one in self.matching(pattern)}.values(), key=lambda one: one.sequence)

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int:
        """Store a client's message and return its sequence; raises ServerError when a condition or limit refuses it."""
        unknown = {name for name in headers if name.startswith("Nats-")} - _KNOWN
        if unknown:
            raise NotKnown(f"headers {', '.join(sorted(unknown))}")
        if (expected := headers.get(topo.H_EXPECTED)) is not None:
            last = self.last(headers.get(topo.H_EXPECTED_SUBJECT, subject))
            current = last.sequence if last else 0
            if current != int(expected):
                raise ServerError(_WRONG_SEQUENCE, f"wrong last sequence: {current}")
        if topo.H_TTL in headers and not self.config.get("allow_msg_ttl"):
            raise ServerError(_TTL_DISABLED, "per-message TTL is disabled")
        if topo.H_SCHEDULE in headers:
            _due_of(headers)
            headers = {**headers, _ROLLUP: "sub"}
        return self.store(subject, data, headers).sequence

    def store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> Message:
        """Store without a condition, for schedules that fire and for sources."""
        message = Message(subject, self.last_sequence + 1, data, dict(headers), self._agenda.now)
        limit = self.config.get("max_bytes", -1)
        if self.config.get("discard") == "new" and 0 <= limit < self.size_bytes + message.size_bytes:
            raise ServerError(_NO_ROOM, "maximum bytes exceeded")
        most = 1 if headers.get(_ROLLUP) == "sub" else self.config.get("max_msgs_per_subject", -1)
        present = self._of_subject[subject]
        for sequence in present[: len(present) - most + 1] if 0 < most <= len(present) else ():
            self.remove(sequence)
        self.last_sequence = message.sequence
        self.messages[message.sequence] = message
        self._of_subject[subject].append(message.sequence)
        self.size_bytes += message.size_bytes
        self._let_expire(message)
        if topo.H_SCHEDULE in headers:
            self._agenda.at(_due_of(headers), partial(self._fire, message))
        for callback in self.stored:
            callback(message)
        return message

    def remove(self, sequence: int) -> bool:
        """Remove a message; False when it was already gone."""
        message = self.messages.pop(sequence, None)
        if message is None:
            return False
        self._of_subject[message.subject].remove(sequence)
        self.size_bytes -= message.size_bytes
        for callback in self.removed:
            callback(message)
        return True

    def _let_expire(self, message: Message) -> None:
        ages = [self.config["max_age"] / topo.NANOS] if self.config.get("max_age") else []
        if topo.H_TTL in message.headers and self.config.get("allow_msg_ttl"):
            ages.append(_seconds(message.headers[topo.H_TTL]))
        for age_s in ages:
            self._agenda.at(message.time + age_s, partial(self.remove, message.sequence))

    def _fire(self, schedule: Message) -> None:
        """Store a schedule's message at its target and remove the schedule, if it still exists."""
        if self.stalled or schedule.sequence not in self.messages:
            return
        headers = {
            name: value
            for name, value in schedule.headers.items()
            if not name.startswith("Nats-Schedule") and name != _ROLLUP
        }
        headers |= {topo.H_SCHEDULER: schedule.subject, topo.H_SCHEDULE_NEXT: "purge"}
        if (ttl := schedule.headers.get(topo.H_SCHEDULE_TTL)) is not None:
            headers[topo.H_TTL] = ttl
        self.store(schedule.headers[topo.H_SCHEDULE_TARGET], schedule.data, headers)
        self.remove(schedule.sequence)


def _due_of(headers: Mapping[str, str]) -> float:
    """Read Unix seconds of an `@at` schedule."""
    found = re.fullmatch(r"@at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", headers[topo.H_SCHEDULE])
    if found is None:
        raise ServerError(_BAD_SCHEDULE, "message schedules pattern is invalid")
    return timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) + float(found[2] or 0)


def _seconds(ttl: str) -> float:
    found = _DURATION.fullmatch(ttl)
    if found is None:
        raise NotKnown(f"a TTL of {ttl}")
    return int(found[1]) * _UNITS[found[2]]
