"""Limits on the calls under way in this process, by kind, so that no number of callers exhausts it."""

from typing import Self

from messaging.errors import GatewayBusy
from messaging.runtime.config import GatewaySettings


class Places:
    """The calls of one kind: each holds one as a context; raises GatewayBusy when none is free.

    `taken` is how many are under way.
    """

    def __init__(self, setting: str, limit: int) -> None:
        self._setting = setting
        self._limit = limit
        self.taken = 0

    def __enter__(self) -> Self:
        if self.taken >= self._limit:
            raise GatewayBusy(self._setting, self._limit)
        self.taken += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


class CallLimits:
    """How large a unary request may be, and how many calls of each kind may be under way."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.request_bytes = settings.request_max_bytes
        self.unary = Places("SMSGW_MAX_CALLS", settings.max_calls)
        self.watches = Places("SMSGW_MAX_WATCHES", settings.max_watches)
        self.batches = Places("SMSGW_MAX_BATCHES", settings.max_batches)
        self.library_streams = Places("SMSGW_MAX_WATCHES", settings.max_watches)
