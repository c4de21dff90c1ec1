"""Says why a pod may send nothing: once in its log, and as long as it lasts in its health and in `smsctl lanes`."""

import time

import structlog

from messaging.documents import Table
from messaging.runtime.problems import NO_SHARE, STANDBY, Problems
from messaging.stream.board import LimitsBoard

_log = structlog.get_logger(__name__)

_NO_COORDINATOR = (
    "{provider} has no share of the rate, because no coordinator leads: start one (`python -m dispatcher coordinate`), "
    "or see the log of the one that runs"
)
_NOT_KNOWN = (
    "{provider} has no share of the rate, because the coordinator {leader} gives it none: "
    "does the providers file of the coordinator name {provider}? It is read at the start"
)
_LEASE_LOST = (
    "{provider} has no share of the rate, because its lease was lost ({why}) and no new one lasted: is the network to "
    "the stream's servers slow, or this machine overloaded?"
)
_ALL_TAKEN = "{provider}: this pod has no share and stands by, because other pods hold all of the rate"


def why_no_share(provider: str, pod: str, table: Table | None, leader: str | None) -> tuple[str, str]:
    """Tell (code of the problem, sentence) for a pod whose share is 0."""
    if leader is None:
        return NO_SHARE, _NO_COORDINATOR.format(provider=provider)
    if table is None or pod not in table.grants:
        return NO_SHARE, _NOT_KNOWN.format(provider=provider, leader=leader)
    return STANDBY, _ALL_TAKEN.format(provider=provider)


class ShareWatch:
    """Notes whether one pod has a share; without one for `patience_s`, reports it among the pod's problems."""

    def __init__(self, board: LimitsBoard, provider: str, problems: Problems, patience_s: float) -> None:
        self._board = board
        self._provider = provider
        self._problems = problems
        self._patience_s = patience_s
        self._without_since: float | None = None
        self._lost = ""

    async def note(self, pod: str, table: Table | None, share: int) -> None:
        """Note the share that `table` gives; raises StreamDown."""
        if share > 0:
            self._without_since = None
            if self._lost:
                self._lost = ""
                _log.warning("has a share again", provider=self._provider, share=share)
            for code in (NO_SHARE, STANDBY):
                self._problems.clear(code)
            return
        now = time.monotonic()
        if self._without_since is None:
            self._without_since = now
        if now < self._without_since + self._patience_s:
            return
        _, leader = await self._board.leader()
        code, sentence = why_no_share(self._provider, pod, table, leader)
        if self._lost and leader is not None:
            code, sentence = NO_SHARE, _LEASE_LOST.format(provider=self._provider, why=self._lost)
        self._problems.clear(STANDBY if code == NO_SHARE else NO_SHARE)
        self._problems.report(code, sentence, blocks=code == NO_SHARE)

    def lost(self, why: str, silent_s: float) -> None:
        """Log that the lease has ended, so that nothing may be sent until there is another one; once for each loss."""
        if not self._lost:
            self._lost = why
            _log.warning("lease lost", provider=self._provider, why=why, silent_s=round(silent_s, 2))
