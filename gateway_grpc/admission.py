"""Back-pressure at the door: how many messages may be accepted and not yet sent. Pure but for what it counts.

The fleet view's backlog is a moment old; what this process has accepted since is added, so that the limits are
overshot by no more than the other gateways accept within one refresh.
"""

from collections import defaultdict

from messaging.errors import BacklogFull, StreamFull
from messaging.stream.fleet import FleetView

_RETRY_S = 2.0


class Admission:
    """Says no while too much waits."""

    def __init__(self, view: FleetView, limit: int, limit_per_provider: int, storage_fill: float) -> None:
        self._view = view
        self._limit = limit
        self._limit_per_provider = limit_per_provider
        self._storage_fill = storage_fill
        self._basis: dict[str, int] | None = None
        self._since: defaultdict[str, int] = defaultdict(int)

    def check(self, provider: str) -> None:
        """Raise BacklogFull or StreamFull when a message for `provider` has no room; counts it otherwise."""
        if self._view.backlog is not self._basis:
            self._basis = self._view.backlog
            self._since.clear()
        if self._view.storage_fill >= self._storage_fill:
            raise StreamFull("account")
        waiting = self._basis.get(provider, 0) + self._since[provider]
        if waiting >= self._limit_per_provider:
            raise BacklogFull(f"provider {provider}", self._limit_per_provider, _RETRY_S)
        if sum(self._basis.values()) + sum(self._since.values()) >= self._limit:
            raise BacklogFull("all providers", self._limit, _RETRY_S)
        self._since[provider] += 1
