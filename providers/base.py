"""The types that dialects use: a Submission becomes a Request, and an Answer becomes an Outcome.

A dialect is pure: it makes no calls and reads no clock; the time of an answer is in the Answer. `dispatcher/transport/`
sends its requests to the provider and passes the answers back.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import attrs
from sms.gateway.v1 import message_pb2 as pb

ACCEPTED = pb.ATTEMPT_OUTCOME_ACCEPTED
THROTTLED = pb.ATTEMPT_OUTCOME_THROTTLED
TRANSIENT = pb.ATTEMPT_OUTCOME_TRANSIENT
PERMANENT = pb.ATTEMPT_OUTCOME_PERMANENT
PROVIDER_FAULT = pb.ATTEMPT_OUTCOME_PROVIDER_FAULT
AMBIGUOUS = pb.ATTEMPT_OUTCOME_AMBIGUOUS

_MAX_ID_CHARS, _MAX_CODE_CHARS, _MAX_DETAIL_CHARS = 128, 64, 400
_MAX_PAUSE_S = 86_400.0


def clean_id(text: str) -> str:
    """Reduce a provider's message id to what can be stored and shown: at most 128 printable characters."""
    text = text[:_MAX_ID_CHARS]
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


def clean_code(text: str) -> str:
    """Reduce a provider's code to what may be logged: at most 64 letters, digits, hyphens, underscores and dots."""
    text = text[:_MAX_CODE_CHARS]
    return text if text.isalnum() else "".join(char for char in text if char.isalnum() or char in "-_.")


def clean_detail(text: str) -> str:
    """Reduce a sentence to what can be stored and shown: at most 400 printable characters on one line."""
    text = text if text.isprintable() else "".join(char for char in " ".join(text.split()) if char.isprintable())
    return text if len(text) <= _MAX_DETAIL_CHARS else f"{text[: _MAX_DETAIL_CHARS - 1]}…"


def bounded_pause(seconds: float | None) -> float | None:
    """Reduce a pause to one that can be waited for: 0 s to one day; None when it is no number."""
    if seconds is None or not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S)


@attrs.frozen
class Outcome:
    """How a call ended.

    The provider's own words are cleaned here, so that no dialect can forget it, and so that every outcome can be
    recorded. `detail` is a sentence for people, written by the dialect; it contains no text, number or key.
    `retry_after_s` is the pause that the provider asks for.
    """

    kind: pb.AttemptOutcome.ValueType
    provider_message_id: str = attrs.field(default="", converter=clean_id)
    code: str = attrs.field(default="", converter=clean_code)
    detail: str = attrs.field(default="", converter=clean_detail)
    retry_after_s: float | None = attrs.field(default=None, converter=bounded_pause)
    said: str = attrs.field(default="", repr=False, converter=clean_detail)
    """What the provider wrote about it. It may repeat anything, so it goes nowhere but through echoes.py."""
    stalled: bool = False
    """Our own process stood still during the call, so the outcome says nothing about the provider's health."""


@attrs.frozen(repr=False, kw_only=True)
class Submission:
    """One message for one call. `recipient` is E.164; `validity_s` is the time left until the deadline.

    No field has a default: whoever makes one has to say where the value comes from.
    """

    message_id: str
    recipient: str
    body: str
    sender: str
    segments: int
    unicode: bool
    attempt: int
    validity_s: float
    traceparent: str

    def __repr__(self) -> str:
        """Leave out what must not be logged."""
        return f"Submission({self.message_id}, attempt {self.attempt})"


@attrs.frozen(repr=False)
class Request:
    """One HTTP request. The transport adds the headers that every request has, such as `user-agent`, if missing."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        """Leave out what must not be logged: URL, headers and body may hold keys, numbers and texts."""
        return f"Request({self.method}, {len(self.body)} bytes)"


@attrs.frozen(repr=False)
class Answer:
    """The answer to a request. Look headers up in lower case; `body` is at most 64 KiB or so.

    `received_at` is Unix seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float

    def __repr__(self) -> str:
        """Leave out what must not be logged: a provider may repeat what it was sent."""
        return f"Answer({self.status}, {len(self.body)} bytes)"


class Dialect(Protocol):
    """One provider's API.

    Two methods will join these: `read_receipt` for delivery receipts, and `read_inbound` for messages from phones.
    """

    can_look_up: bool
    """Whether the provider can be asked about a message. If not, the two methods for it are never called."""

    missing_after_s: float
    """A look-up's no counts this long after the end of the attempt. Before, the message may still be on its way."""

    def request(self, submission: Submission) -> Request:
        """Make the request that sends a message."""

    def read(self, answer: Answer) -> Outcome:
        """Return what the answer to that request means; never raises, whatever the answer contains."""

    def look_up_request(self, message_id: str, traceparent: str) -> Request:
        """Make the request that asks whether the provider has taken a message."""

    def read_look_up(self, answer: Answer) -> Outcome | None:
        """Return what the provider knows: accepted, transient (it has no such message), or None (not known).

        Transient only if the provider's no can be relied on, accepted only if the answer itself says so.
        """
