"""Tells a provider that is too busy from one message that it always puts off. Pure: monotonic seconds come in as `now`.

One answer of "too many" does not say which it is. So the first one pauses the lane for a short time only. Then another
message is the probe: if it is put off too, the whole lane is meant, and the provider's pause is obeyed in full. A
message that alone is put off again waits by itself.
"""

from collections import deque

import attrs

LONGEST_PAUSE_S = 10.0
"""A longer pause of a lane opens the breaker, so that waiting messages move and routing looks elsewhere."""

_SUSPICION_S = 5.0
_REPEATS = 3
_FALSE_ALARMS, _REMEMBERED_S = 3, 60.0


@attrs.frozen
class LanePause:
    """What follows for the lane: a pause of `seconds` (0: none), as an open breaker or not."""

    seconds: float = 0.0
    opens: bool = False


class Throttling:
    """One pod's view of a lane."""

    def __init__(self) -> None:
        self._row: set[str] = set()  # messages put off since the last one that was taken
        self._pauses = 0
        self._false_alarms: deque[float] = deque(maxlen=_FALSE_ALARMS)

    def throttled(self, message_id: str, pause_s: float, now: float, *, first_time: bool) -> LanePause:
        """Decide what follows; `first_time`: the message was not put off here right before."""
        self._row.add(message_id)
        if len(self._row) == 1:
            return LanePause(min(pause_s, _SUSPICION_S)) if first_time and not self._distrusts(now) else LanePause()
        if len(self._row) == 2 and self._distrusts(now):
            return LanePause()
        self._pauses += 1
        return LanePause(pause_s, opens=pause_s > LONGEST_PAUSE_S or self._pauses > _REPEATS * len(self._row))

    def accepted(self, now: float) -> None:
        """Note that a message was taken."""
        if len(self._row) == 1:
            self._false_alarms.append(now)
        self._row.clear()
        self._pauses = 0

    def _distrusts(self, now: float) -> bool:
        """Whether single messages were put off lately while others were taken."""
        alarms = self._false_alarms
        return len(alarms) == _FALSE_ALARMS and alarms[0] > now - _REMEMBERED_S
