"""The simulated provider's dialect: its exact requests, and what each of its answers means."""

from typing import Any

import pytest

from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
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
from providers.simulated import Simulated

SUBMISSION = Submission(
    message_id="m-1",
    recipient="+233201234567",
    body="Hi",
    sender="",
    segments=2,
    unicode=False,
    attempt=1,
    validity_s=60.0,
    traceparent="00-trace",
)
BODY = b'{"reference":"m-1","to":"+233201234567","from":"ACME","text":"Hi","segments":2}'
HEADERS = {"traceparent": "00-trace", "content-type": "application/json"}


def dialect(url: str = "http://sim:8080", secrets: dict[str, Secret] | None = None, **settings: Any) -> Simulated:
    return Simulated(Provider("alpha", "simulated", url, sender="ACME", settings=settings, secrets=secrets or {}))


def test_request_is_exactly_this() -> None:
    assert dialect().request(SUBMISSION) == Request("POST", "http://sim:8080/v1/messages", HEADERS, BODY)


def test_key_travels_as_a_bearer_token_and_a_slash_ends_no_address() -> None:
    one = dialect("http://sim:8080/", {"api_key": Secret("k")})
    headers = {"authorization": "Bearer k", **HEADERS}
    assert one.request(SUBMISSION) == Request("POST", "http://sim:8080/v1/messages", headers, BODY)


def code(word: str) -> bytes:
    return f'{{"error": {{"code": "{word}"}}}}'.encode()


def taken_as(name: str, status: int) -> str:
    return f"the provider answered {status}, which means {name}"


NEITHER = "the answer has a success status and no success value"
ANSWERS: dict[str, tuple[int, bytes, Outcome]] = {
    "yes": (200, b'{"id": "p-9", "status": "accepted"}', Outcome(ACCEPTED, "p-9", "200")),
    "half a yes": (200, b'{"id": "p-9"}', Outcome(AMBIGUOUS, "", "200", NEITHER)),
    "yes that cannot be read": (
        200,
        b"{",
        Outcome(AMBIGUOUS, "", "200", "the answer has a success status and cannot be read"),
    ),
    "no such number": (
        400,
        code("invalid_recipient"),
        Outcome(PERMANENT, "", "invalid_recipient", taken_as("permanent", 400)),
    ),
    "no balance": (
        402,
        code("no_balance"),
        Outcome(PROVIDER_FAULT, "", "no_balance", taken_as("provider_fault", 402)),
    ),
    "wrong key": (
        401,
        code("unauthorized"),
        Outcome(PROVIDER_FAULT, "", "unauthorized", taken_as("provider_fault", 401)),
    ),
    "throttled": (429, code("throttled"), Outcome(THROTTLED, "", "throttled", taken_as("throttled", 429), 2.0)),
    "busy": (503, b"", Outcome(TRANSIENT, "", "503", taken_as("transient", 503))),
    "broken": (500, b"", Outcome(AMBIGUOUS, "", "500", taken_as("ambiguous", 500))),
}


@pytest.mark.parametrize(("status", "body", "outcome"), ANSWERS.values(), ids=ANSWERS)
def test_answer_means_exactly_this(status: int, body: bytes, outcome: Outcome) -> None:
    assert dialect().read(Answer(status, {"retry-after": "2"}, body, 0.0)) == outcome


def test_500_means_what_the_settings_say() -> None:
    outcome = dialect(server_errors="transient").read(Answer(500, {}, b"", 0.0))
    assert outcome == Outcome(TRANSIENT, "", "500", taken_as("transient", 500))


def test_look_up_is_made_only_when_the_settings_say_so() -> None:
    assert not dialect().can_look_up
    one = dialect(look_up=True)
    assert one.can_look_up
    assert one.look_up_request("m/1", "00-t") == Request(
        "GET", "http://sim:8080/v1/messages/m%2F1", {"traceparent": "00-t"}
    )
    assert one.read_look_up(Answer(200, {}, b'{"id": "p-9"}', 0.0)) == Outcome(
        ACCEPTED, "p-9", detail="found by look-up"
    )
    missing = Outcome(TRANSIENT, "", "404", "the provider does not know the message")
    assert one.read_look_up(Answer(404, {}, b"", 0.0)) == missing
    assert one.read_look_up(Answer(500, {}, b"", 0.0)) is None
