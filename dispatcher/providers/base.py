"""What every adapter is: it turns one submission into one call, and the answer into one outcome."""

from typing import Protocol

import attrs
from sms.gateway.v1 import message_pb2 as pb

ACCEPTED = pb.ATTEMPT_OUTCOME_ACCEPTED
THROTTLED = pb.ATTEMPT_OUTCOME_THROTTLED
TRANSIENT = pb.ATTEMPT_OUTCOME_TRANSIENT
PERMANENT = pb.ATTEMPT_OUTCOME_PERMANENT
PROVIDER_FAULT = pb.ATTEMPT_OUTCOME_PROVIDER_FAULT
AMBIGUOUS = pb.ATTEMPT_OUTCOME_AMBIGUOUS


@attrs.frozen
class Outcome:
    """How a call ended. `detail` is a sentence for people that holds neither text nor number nor key."""

    kind: pb.AttemptOutcome.ValueType
    provider_message_id: str = ""
    code: str = ""
    detail: str = ""
    retry_after_s: float | None = None


@attrs.frozen(repr=False)
class Submission:
    """One message for one call. `validity_s` is what is left until the deadline."""

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
        """Name it without what nobody may log."""
        return f"Submission({self.message_id}, attempt {self.attempt})"


class Gate(Protocol):
    """Stands right before the write: passing it means that the bytes leave now.

    `passed` says whether they did, so that a failure after it is unclear and one before it is not.
    """

    passed: bool

    async def enter(self) -> None:
        """Wait for the right to write; raises GateClosed when the call must not be made any more."""

    def wrote(self) -> None:
        """Note that the bytes have been written."""


class GateClosed(Exception):
    """The call must not be made any more; nothing was written."""


class Adapter(Protocol):
    """One provider's API."""

    can_look_up: bool

    async def send(self, submission: Submission, gate: Gate) -> Outcome:
        """Make the call, passing the gate once right before the request is written; never raises for an answer.

        Raises GateClosed when the gate did.
        """

    async def look_up(self, message_id: str, traceparent: str) -> Outcome | None:
        """Ask whether the provider took a message: accepted, transient (it did not), or None (it cannot say)."""

    async def aclose(self) -> None:
        """Close the connections."""
