"""Tells when to leave a server that answers pings but stores nothing, as one that is cut off from the others. Pure."""

PATIENCE_S = 4.0
"""Longer than one publish waits. An election takes as long, but then another server is as good as this one."""


class Silence:
    """How long the publishes of a connection have been without an answer; times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """Note an answer, or a new connection."""
        self._since = None

    def is_too_long(self, began: float, now: float) -> bool:
        """Note a publish that began at `began` and got no answer; True when it is time to try another server.

        Another server then gets as much time.
        """
        if self._since is None:
            self._since = began
        if now - self._since < PATIENCE_S:
            return False
        self._since = None
        return True
