"""What the dispatcher needs from a provider's client, independent of the protocol."""

from typing import Protocol

from dispatcher.transport.gate import WriteGate
from providers.base import Outcome, Submission


class ProviderClient(Protocol):
    """Talks to one provider."""

    can_look_up: bool
    missing_after_s: float
    """A look-up's no counts this long after the end of the attempt."""

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        """Make the call, and pass the gate once, directly before the request is written.

        No answer of the provider raises an exception. Raises GateClosed when the gate refuses.
        """

    async def look_up(self, message_id: str, traceparent: str, gate: WriteGate) -> Outcome | None:
        """Ask whether the provider took a message: accepted, transient (it did not), or None (not known).

        It passes the gate as `send` does, and raises GateClosed when the gate refuses.
        """

    async def aclose(self) -> None:
        """Close the connections."""
