"""A provider's client whose calls are watched for silence."""

from dispatcher.breaker.silence import Silence
from dispatcher.transport.client import ProviderClient
from dispatcher.transport.gate import WriteGate
from messaging.runtime.boot_clock import boot_time
from providers.base import AMBIGUOUS, Outcome, Submission


class WatchedClient:
    """Passes calls on, and notes in `silence` when each was written and how it ended."""

    def __init__(self, client: ProviderClient, silence: Silence) -> None:
        self._client = client
        self._silence = silence
        self.can_look_up = client.can_look_up
        self.missing_after_s = client.missing_after_s

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        """Make the call; raises GateClosed when the gate refuses."""
        watched = _WatchedGate(gate, self._silence)
        answered = False
        try:
            outcome = await self._client.send(submission, watched)
            answered = outcome.kind != AMBIGUOUS or outcome.code.isdigit()  # an unclear status is an answer too
            return outcome
        finally:
            if watched.number is not None:
                self._silence.ended(watched.number, boot_time(), answered=answered)

    async def look_up(self, message_id: str, traceparent: str, gate: WriteGate) -> Outcome | None:
        """Ask whether the provider took a message; raises GateClosed when the gate refuses."""
        return await self._client.look_up(message_id, traceparent, gate)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class _WatchedGate:
    """Passes through another gate, and notes the moment."""

    def __init__(self, gate: WriteGate, silence: Silence) -> None:
        self._gate = gate
        self._silence = silence
        self.passed = False
        self.number: int | None = None

    async def enter(self) -> None:
        """Pass, or raise GateClosed."""
        await self._gate.enter()
        self.passed = True
        self.number = self._silence.began(boot_time())

    def wrote(self) -> None:
        """Note that the bytes have been written."""
        self._gate.wrote()
