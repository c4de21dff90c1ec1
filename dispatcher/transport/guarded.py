"""A dialect that never raises: whatever goes wrong in it becomes an outcome, and a log line that says where.

Before a request is written a fault of ours is a provider fault, because nothing was sent: the breaker counts it, and
another provider is tried. Once an answer has come, its status decides. So an error in a dialect never looks like a
process that vanished, after which nobody knows what the provider did.
"""

from collections.abc import Callable
from typing import TypeVar

import attrs
import structlog

from providers.base import AMBIGUOUS, PROVIDER_FAULT, Answer, Dialect, Outcome, Request, Submission
from providers.echoes import without_echoes
from providers.statuses import outcome_of_status

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


@attrs.frozen
class Guarded:
    """Calls the methods of one dialect, and turns every exception into a value."""

    dialect: Dialect
    secrets: tuple[str, ...] = ()
    """The keys of the provider, which must not be repeated in an outcome."""

    def request(self, submission: Submission) -> Request | Outcome:
        """Make the request that sends a message, or the outcome of a message for which none can be made."""
        request = _value_of(lambda: self.dialect.request(submission))
        return unsendable(request) if isinstance(request, Exception) else request

    def read(self, answer: Answer, submission: Submission) -> Outcome:
        """Return what an answer means; by its status alone when the dialect cannot read it."""
        outcome = _value_of(lambda: self._without_echoes(self.dialect.read(answer), submission, answer.status))
        if not isinstance(outcome, Exception):
            return outcome
        detail = f"the provider answered {answer.status}, and the answer cannot be read ({type(outcome).__name__})"
        return Outcome(outcome_of_status(answer.status) or AMBIGUOUS, code=str(answer.status), detail=detail)

    def _without_echoes(self, outcome: Outcome, submission: Submission, status: int) -> Outcome:
        return without_echoes(outcome, submission.recipient, submission.body, self.secrets, status_code=str(status))

    def look_up_request(self, message_id: str, traceparent: str) -> Request | None:
        """Make the request that asks about a message; None when none can be made."""
        request = _value_of(lambda: self.dialect.look_up_request(message_id, traceparent))
        return None if isinstance(request, Exception) else request

    def read_look_up(self, answer: Answer) -> Outcome | None:
        """Return what the provider knows; None when the dialect cannot read the answer."""
        outcome = _value_of(lambda: self.dialect.read_look_up(answer))
        return None if isinstance(outcome, Exception) else outcome


def unsendable(exc: Exception) -> Outcome:
    """Make the outcome of a message for which no request can be made, with nothing of the exception but its type."""
    detail = f"no request can be made for this message ({type(exc).__name__}): check the provider's settings"
    return Outcome(PROVIDER_FAULT, code="unsendable", detail=detail)


def _value_of(call: Callable[[], _T]) -> _T | Exception:
    """Return what a call returns, or what it raises; the log gets the place, as the words may hold a text or a key."""
    try:
        return call()
    except Exception as exc:  # noqa: BLE001 - see the module
        log_failure(exc)
        return exc


def log_failure(exc: Exception) -> None:
    """Log the type of an exception and the place where it was raised."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace is not None else "?"
    _log.error("a dialect failed", error=type(exc).__name__, place=place)
