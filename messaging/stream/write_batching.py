"""When questions leave for the server: one alone at once, many together.

Each write of its own wakes the server, and each answer of its own wakes us: for one small message that costs more than
everything else that is done for it. So where questions come in a dense row they wait for one another, up to 2 ms. Where
that does not bring enough of them together (a caller who waits for each answer before the next call) nobody waits.
"""

import asyncio

_APART_S = 0.002
"""How far apart departures are while they gather."""
_ENOUGH = 3
"""Fewer questions than these do not pay for waiting."""
_LEAN = 3
"""So many departures in a row that carried too few end the gathering."""
_TRY_EVERY = 64
"""So many questions leave alone before gathering is tried again."""


class WriteBatching:
    """Tells each question of one connection when to leave; questions that leave together leave in their order."""

    def __init__(self) -> None:
        self._left_at = float("-inf")
        self._aboard: list[asyncio.Future[None]] = []
        self._lean = 0
        self._alone = 0

    async def leave(self) -> None:
        """Return when it is time to write."""
        loop = asyncio.get_running_loop()
        if not self._aboard:
            now = loop.time()
            if now >= self._left_at + _APART_S or not self._gathers():
                self._left_at = now
                return
            loop.call_at(self._left_at + _APART_S, self._depart)
        place: asyncio.Future[None] = loop.create_future()
        self._aboard.append(place)
        await place

    def _gathers(self) -> bool:
        if self._lean < _LEAN:
            return True
        self._alone = (self._alone + 1) % _TRY_EVERY
        return self._alone == 0

    def _depart(self) -> None:
        self._left_at = asyncio.get_running_loop().time()
        aboard, self._aboard = self._aboard, []
        self._lean = 0 if len(aboard) >= _ENOUGH else min(self._lean + 1, _LEAN)
        for place in aboard:
            if not place.done():  # its task may have been cancelled
                place.set_result(None)
