"""The gate that every paced call passes directly before its bytes are written."""

from typing import Protocol


class WriteGate(Protocol):
    """The last check before the write: once a call has passed it, its bytes are written at once.

    `passed` says whether it was passed. A call that fails afterwards has an unclear outcome; one that fails before was
    not sent.
    """

    passed: bool

    async def enter(self) -> None:
        """Wait for permission to write; raises GateClosed when the call must not be made any more."""

    def wrote(self) -> None:
        """Note that the bytes have been written."""


class GateClosed(Exception):
    """The call must not be made any more; nothing was written."""


class OpenGate:
    """The gate of a call that is not paced, such as a look-up."""

    def __init__(self) -> None:
        self.passed = False

    async def enter(self) -> None:
        """Let the call through at once."""
        self.passed = True

    def wrote(self) -> None:
        """Do nothing."""
