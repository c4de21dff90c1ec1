"""Standard output that may go away: a closed terminal, a pipe without a reader, a full disk. It never stops a stop."""

import contextlib
import os
from collections.abc import Callable
from typing import IO, Any


class Screen:
    """A stream that swallows what cannot be written any more, and tells it once by `gone`."""

    def __init__(self, stream: IO[str], gone: Callable[[], object]) -> None:
        self._stream = stream
        self._gone = gone
        self._is_gone = False

    def write(self, text: str) -> int:
        """Write a text; returns its length also when it went nowhere."""
        try:
            return self._stream.write(text)
        except OSError:
            self.close_for_good()
            return len(text)

    def flush(self) -> None:
        """Flush what is written."""
        try:
            self._stream.flush()
        except OSError:
            self.close_for_good()

    def close_for_good(self) -> None:
        """Write nothing more, also not what the stream still holds."""
        if self._is_gone:
            return
        self._is_gone = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor holds nothing for anybody
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        self._gone()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
