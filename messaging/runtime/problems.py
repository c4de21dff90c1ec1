"""What keeps a process from its work, as one list for its log, its health and `smsctl lanes`.

Each problem is logged once when it begins and once when it has ended.
"""

import time
from collections.abc import Iterator

import attrs
import structlog

_log = structlog.get_logger(__name__)

NO_STREAM, CLOCK, NO_SHARE, STANDBY = "NO_STREAM", "CLOCK", "NO_SHARE", "STANDBY"
NO_STORAGE_LIMIT, LANE_FAILED = "NO_STORAGE_LIMIT", "LANE_FAILED"


@attrs.frozen
class Problem:
    """One problem: a stable `code`, and a sentence with the cure. One that `blocks` stops the process's work.

    `of` names the provider that it concerns, in a process that serves several; else it is empty.
    """

    code: str
    detail: str
    blocks: bool = True
    of: str = ""

    @property
    def key(self) -> str:
        """The code, and the provider that it concerns if there are several."""
        return f"{self.code}.{self.of}" if self.of else self.code


class Problems:
    """The problems of one process now, at most one of each code; or those of one of its providers, named `of`."""

    def __init__(self, of: str = "", found: dict[str, tuple[Problem, float]] | None = None) -> None:
        self._of = of
        self._found = {} if found is None else found

    def of(self, provider: str) -> "Problems":
        """Return the problems that concern one provider: they stand in the process's list too."""
        return Problems(provider, self._found)

    def __iter__(self) -> Iterator[Problem]:
        """Iterate over the problems, the oldest first."""
        return iter([problem for problem, _ in self._found.values()])

    @property
    def blocking(self) -> bool:
        """Whether the process cannot do its work."""
        return any(problem.blocks for problem in self)

    def report(self, code: str, detail: str, *, blocks: bool = True) -> None:
        """Note a problem; it is logged only when it begins."""
        problem = Problem(code, detail, blocks, self._of)
        known = self._found.get(problem.key)
        self._found[problem.key] = (problem, known[1] if known else time.monotonic())
        if known is None:
            log = _log.error if blocks else _log.warning
            log("this process cannot work" if blocks else "needs attention", problem=code, detail=detail)

    def clear(self, code: str) -> None:
        """Note that a problem has ended; does nothing when there was none."""
        known = self._found.pop(Problem(code, "", of=self._of).key, None)
        if known is not None:
            _log.warning("the problem has ended", problem=code, seconds=round(time.monotonic() - known[1], 1))
