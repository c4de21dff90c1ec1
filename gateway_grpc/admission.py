"""Back-pressure: limits how many messages may be accepted and not yet sent. No I/O, but it keeps counts.

The fleet view's backlog is a moment old, so the messages that this process has accepted since are added. The limits can
then be exceeded only by what the other gateways accept within one refresh.
"""

from collections import defaultdict

from messaging.errors import BacklogFull, StreamFull
from messaging.stream.fleet import FleetView

_RETRY_S = 2.0


class Admission:
    """Refuses messages while the backlog or the storage is full."""

    def __init__(self, view: FleetView, limit: int, limit_per_provider: int, storage_fill: float) -> None:
        self._view = view
        self._limit = limit
        self._limit_per_provider = limit_per_provider
        self._storage_fill = storage_fill
        self._backlog: dict[str, int] | None = None
        self._accepted_since: defaultdict[str, int] = defaultdict(int)
        self._waiting = 0

    def check(self, provider: str) -> None:
        """Raise BacklogFull or StreamFull when there is no room for a message to `provider`; count it otherwise."""
        if self._view.backlog is not self._backlog:
            self._backlog = self._view.backlog
            self._waiting = sum(self._backlog.values())
            self._accepted_since.clear()
        if self._view.storage_fill >= self._storage_fill:
            raise StreamFull("account")
        waiting = self._backlog.get(provider, 0) + self._accepted_since[provider]
        if waiting >= self._limit_per_provider:
            raise BacklogFull(f"provider {provider}", self._limit_per_provider, _RETRY_S)
        if self._waiting >= self._limit:
            raise BacklogFull("all providers", self._limit, _RETRY_S)
        self._accepted_since[provider] += 1
        self._waiting += 1
