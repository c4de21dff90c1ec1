"""What the dispatcher needs of a provider, whatever the wire."""

from typing import Protocol

from dispatcher.transport.gate import WriteGate
from providers.base import Outcome, Submission


class ProviderClient(Protocol):
    """Talks to one provider."""

    can_look_up: bool

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        """Make the call, passing the gate once right before the request is written; never raises for an answer.

        Raises GateClosed when the gate did.
        """

    async def look_up(self, message_id: str, traceparent: str) -> Outcome | None:
        """Ask whether the provider took a message: accepted, transient (it did not), or None (it cannot say)."""

    async def aclose(self) -> None:
        """Close the connections."""
