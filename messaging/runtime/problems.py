"""What keeps a process from its work, as one list for its log, its health and `smsctl lanes`.

Each problem is logged once when it begins and once when it has ended.
"""

import time
from collections.abc import Iterator

import attrs
import structlog

_log = structlog.get_logger(__name__)

NO_STREAM, CLOCK, NO_SHARE, STANDBY = "NO_STREAM", "CLOCK", "NO_SHARE", "STANDBY"
NO_STORAGE_LIMIT = "NO_STORAGE_LIMIT"


@attrs.frozen
class Problem:
    """One problem: a stable `code`, and a sentence with the cure. One that `blocks` stops the process's work."""

    code: str
    detail: str
    blocks: bool = True


class Problems:
    """The problems of one process now, at most one of each code."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Problem, float]] = {}

    def __iter__(self) -> Iterator[Problem]:
        """Iterate over the problems, the oldest first."""
        return iter([problem for problem, _ in self._found.values()])

    @property
    def blocking(self) -> bool:
        """Whether the process cannot do its work."""
        return any(problem.blocks for problem in self)

    def report(self, code: str, detail: str, *, blocks: bool = True) -> None:
        """Note a problem; it is logged only when it begins."""
        known = self._found.get(code)
        self._found[code] = (Problem(code, detail, blocks), known[1] if known else time.monotonic())
        if known is None:
            log = _log.error if blocks else _log.warning
            log("this process cannot work" if blocks else "needs attention", problem=code, detail=detail)

    def clear(self, code: str) -> None:
        """Note that a problem has ended; does nothing when there was none."""
        known = self._found.pop(code, None)
        if known is not None:
            _log.warning("the problem has ended", problem=code, seconds=round(time.monotonic() - known[1], 1))
