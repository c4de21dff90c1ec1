"""A dialect that raises: what follows is a provider fault before the write, and the status's meaning after it."""

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.transport.guarded import Guarded
from messaging import codec
from providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Answer,
    Outcome,
    Request,
    Submission,
)
from providers.statuses import name_of_status
from tests.contract.adapters.kit import KEY, NUMBER, SUBMISSION, TEXT

ERRORS = [
    ValueError(f"{NUMBER} {KEY}"),
    UnicodeEncodeError("ascii", TEXT, 0, 1, TEXT),
    TypeError(TEXT),
    KeyError(KEY),
    AttributeError(),
    OverflowError(),
    RecursionError(),
    ZeroDivisionError(),
    MemoryError(),
    LookupError("unknown encoding"),
    TimeoutError(),
    ConnectionResetError(),
]
RAISES = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@attrs.define
class Broken:
    """A dialect in which everything goes wrong."""

    error: Exception
    can_look_up: bool = True
    missing_after_s: float = 0.0

    def request(self, _: Submission) -> Request:
        raise self.error

    def read(self, _: Answer) -> Outcome:
        raise self.error

    def look_up_request(self, _id: str, _trace: str) -> Request:
        raise self.error

    def read_look_up(self, _: Answer) -> Outcome | None:
        raise self.error


@RAISES
def test_request_that_cannot_be_made_is_a_provider_fault(error: Exception) -> None:
    outcome = Guarded(Broken(error)).request(SUBMISSION)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.code) == (PROVIDER_FAULT, "unsendable")
    for forbidden in (NUMBER, KEY, TEXT):
        assert forbidden not in outcome.detail


@RAISES
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, AMBIGUOUS),
        (204, AMBIGUOUS),
        (302, PROVIDER_FAULT),
        (400, PERMANENT),
        (401, PROVIDER_FAULT),
        (421, TRANSIENT),
        (425, TRANSIENT),
        (429, THROTTLED),
        (500, AMBIGUOUS),
        (503, TRANSIENT),
        (0, AMBIGUOUS),
        (999, AMBIGUOUS),
    ],
)
def test_answer_that_the_dialect_cannot_read_is_judged_by_its_status(
    error: Exception, status: int, kind: pb.AttemptOutcome.ValueType
) -> None:
    outcome = Guarded(Broken(error)).read(Answer(status, {}, b"", 0.0), SUBMISSION)
    assert (outcome.kind, outcome.code) == (kind, str(status))
    for forbidden in (NUMBER, KEY, TEXT):
        assert forbidden not in outcome.detail


@RAISES
def test_look_up_that_goes_wrong_says_nothing(error: Exception) -> None:
    one = Guarded(Broken(error))
    assert one.look_up_request("m-1", "00-t") is None
    assert one.read_look_up(Answer(200, {}, b"", 0.0)) is None


@given(status=st.integers(-1, 1_000_000))
def test_every_status_has_a_meaning(status: int) -> None:
    assert name_of_status(status) in {
        "accepted",
        "permanent",
        "provider_fault",
        "transient",
        "throttled",
        "ambiguous",
    }


_TEXTS = st.text(st.characters(), max_size=600)


@given(words=_TEXTS, pause=st.none() | st.floats() | st.integers(-(10**400), 10**400).map(lambda n: n % 10**12))
@example(words="", pause=float("nan"))
@example(words="", pause=float("inf"))
@example(words="\ud800\0\n", pause=-1e308)
def test_every_outcome_can_be_recorded(words: str, pause: float | None) -> None:
    outcome = Outcome(ACCEPTED, words, words, words, pause)
    attempt = pb.Attempt(provider_message_id=outcome.provider_message_id, code=outcome.code, detail=outcome.detail)
    assert pb.Attempt.FromString(attempt.SerializeToString()) == attempt
    assert "\0" not in outcome.detail, "PostgreSQL keeps none"
    assert outcome.detail.isprintable()
    assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 86_400
    codec.timestamp(1.8e9 + (outcome.retry_after_s or 0.0))
