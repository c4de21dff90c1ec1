"""The gate that every paced call passes right before its bytes leave."""

from typing import Protocol


class WriteGate(Protocol):
    """Stands right before the write: passing it means that the bytes leave now.

    `passed` says whether it was passed: a call that breaks afterwards is unclear, one that breaks before is harmless.
    """

    passed: bool

    async def enter(self) -> None:
        """Wait for the right to write; raises GateClosed when the call must not be made any more."""

    def wrote(self) -> None:
        """Note that the bytes have been written."""


class GateClosed(Exception):
    """The call must not be made any more; nothing was written."""


class OpenGate:
    """The gate of a call that is not paced: a look-up."""

    def __init__(self) -> None:
        self.passed = False

    async def enter(self) -> None:
        """Let the call pass."""
        self.passed = True

    def wrote(self) -> None:
        """Count nothing."""
