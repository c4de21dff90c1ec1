"""The generic dialect: every exact request, and every row of its response table. Nothing is sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from providers.catalogue import dialect_of
from providers.http_generic import HttpGeneric
from providers.statuses import STATUSES
from tests.contract.adapters.kit import Kit
from tests.contract.adapters.kits import KITS

SUBMISSION = Submission(
    message_id="m-1",
    recipient="+233201234567",
    body="Hi é & 4711",
    sender="",
    segments=2,
    unicode=False,
    attempt=3,
    validity_s=599.7,
    traceparent="00-trace",
)
URL = "https://api.example/v2/send?account=7"
TRACE = {"traceparent": "00-trace"}
JSON = {**TRACE, "content-type": "application/json"}
FORM = {**TRACE, "content-type": "application/x-www-form-urlencoded"}


def dialect(**settings: Any) -> HttpGeneric:
    return HttpGeneric(
        Provider("alpha", "http-json", URL, sender="ACME", settings=settings, secrets={"key": Secret("s3cret")})
    )


ALL_NAMES = {
    name: f"{{{name}}}"
    for name in ("message_id", "recipient", "digits", "sender", "body", "segments", "attempt", "unicode", "validity_s")
}
QUERY = "https://api.example/v2/send?account=7"
REQUESTS: dict[str, tuple[dict[str, Any], Request]] = {
    "no settings": (
        {},
        Request(
            "POST",
            URL,
            JSON,
            '{"to":"+233201234567","from":"ACME","text":"Hi é & 4711","reference":"m-1"}'.encode(),
        ),
    ),
    "every name": (
        {"fields": ALL_NAMES},
        Request(
            "POST",
            URL,
            JSON,
            '{"message_id":"m-1","recipient":"+233201234567","digits":"233201234567","sender":"ACME",'
            '"body":"Hi é & 4711","segments":2,"attempt":3,"unicode":"false","validity_s":599}'.encode(),
        ),
    ),
    "nested, with a number inside a text": (
        {"fields": {"m.to[]": "{digits}", "m.n": "{segments}", "ref": "{message_id}/{attempt}"}},
        Request("POST", URL, JSON, b'{"m":{"to":["233201234567"],"n":2},"ref":"m-1/3"}'),
    ),
    "headers with secrets, in lower case": (
        {"fields": {}, "headers": {"Api-Key": "{secret.key}", "X-Ref": "{message_id}"}},
        Request("POST", URL, {"api-key": "s3cret", "x-ref": "m-1", **JSON}, b"{}"),
    ),
    "content type and trace of its own": (
        {"fields": {}, "headers": {"Content-Type": "application/sms", "Traceparent": "no"}},
        Request("POST", URL, {"content-type": "application/sms", **TRACE}, b"{}"),
    ),
    "form": (
        {"encoding": "form", "fields": {"to": "{recipient}", "text": "{body}", "key": "{secret.key}"}},
        Request("POST", URL, FORM, b"to=%2B233201234567&text=Hi+%C3%A9+%26+4711&key=s3cret"),
    ),
    "put": ({"method": "PUT", "encoding": "form", "fields": {"n": "{segments}"}}, Request("PUT", URL, FORM, b"n=2")),
    "query": (
        {"method": "GET", "encoding": "query", "fields": {"to": "{recipient}", "text": "{body}"}},
        Request("GET", f"{QUERY}&to=%2B233201234567&text=Hi+%C3%A9+%26+4711", TRACE),
    ),
    "query of nothing": ({"method": "GET", "encoding": "query", "fields": {}}, Request("GET", QUERY, TRACE)),
    "query by post": (
        {"encoding": "query", "fields": {"to": "{digits}"}},
        Request("POST", f"{QUERY}&to=233201234567", TRACE),
    ),
}


@pytest.mark.parametrize(("settings", "request_"), REQUESTS.values(), ids=REQUESTS)
def test_request_is_exactly_this(settings: dict[str, Any], request_: Request) -> None:
    assert dialect(**settings).request(SUBMISSION) == request_


SETTINGS: dict[str, Any] = {
    "id_path": "data.0.id",
    "success_path": "ok",
    "success_values": [True, "success"],
    "code_path": "error.code",
    "statuses": {"transient": [500], "permanent": [460], "ambiguous": [202]},
    "codes": {"permanent": ["21211"], "provider_fault": [1001], "accepted": ["duplicate"], "throttled": ["slow"]},
}
YES = b'{"ok": true, "data": [{"id": "p-9"}]}'
UNREADABLE = "the answer has a success status and cannot be read"
NEITHER = "the answer has a success status and no success value"


def taken_as(name: str, status: int) -> str:
    return f"the provider answered {status}, which means {name}"


ANSWERS: dict[str, tuple[int, dict[str, str], bytes, Outcome]] = {
    "yes": (200, {}, YES, Outcome(ACCEPTED, "p-9", "200")),
    "yes by another value": (201, {}, b'{"ok": "success"}', Outcome(ACCEPTED, "", "201")),
    "yes with a number for an id": (
        200,
        {},
        b'{"ok": true, "data": [{"id": 7}]}',
        Outcome(ACCEPTED, "7", "200"),
    ),
    "yes with an object for an id": (200, {}, b'{"ok": true, "data": [{"id": {}}]}', Outcome(ACCEPTED, "", "200")),
    "yes with half a character for an id": (
        200,
        {},
        b'{"ok": true, "data": [{"id": "p\\ud800"}]}',
        Outcome(ACCEPTED, "p", "200"),
    ),
    "yes whose status means something else here": (
        202,
        {},
        YES,
        Outcome(AMBIGUOUS, "p-9", "202", taken_as("ambiguous", 202)),
    ),
    "yes by its code, whatever the status": (
        409,
        {},
        b'{"error": {"code": "duplicate"}, "data": [{"id": "p-9"}]}',
        Outcome(ACCEPTED, "p-9", "duplicate"),
    ),
    "no with the status of a yes": (200, {}, b'{"ok": false}', Outcome(AMBIGUOUS, "", "200", NEITHER)),
    "no by its code with the status of a yes": (
        200,
        {},
        b'{"error": {"code": "21211"}}',
        Outcome(PERMANENT, "", "21211", taken_as("permanent", 200)),
    ),
    "yes without its word": (200, {}, b"{}", Outcome(AMBIGUOUS, "", "200", NEITHER)),
    "yes that is a list": (200, {}, b"[]", Outcome(AMBIGUOUS, "", "200", NEITHER)),
    "yes that is null": (200, {}, b"null", Outcome(AMBIGUOUS, "", "200", UNREADABLE)),
    "yes without a body": (200, {}, b"", Outcome(AMBIGUOUS, "", "200", UNREADABLE)),
    "yes that is cut off": (200, {}, YES[:-1], Outcome(AMBIGUOUS, "", "200", UNREADABLE)),
    "yes that is no UTF-8": (200, {}, b'{"ok": "\xff"}', Outcome(AMBIGUOUS, "", "200", UNREADABLE)),
    "yes that is nested too deeply": (200, {}, b"[" * 60_000, Outcome(AMBIGUOUS, "", "200", UNREADABLE)),
    "code that is a number": (
        500,
        {},
        b'{"error": {"code": 1001}}',
        Outcome(PROVIDER_FAULT, "", "1001", taken_as("provider_fault", 500)),
    ),
    "code that nobody knows": (
        400,
        {},
        b'{"error": {"code": "never heard"}}',
        Outcome(PERMANENT, "", "neverheard", taken_as("permanent", 400)),
    ),
    "no without a body": (401, {}, b"", Outcome(PROVIDER_FAULT, "", "401", taken_as("provider_fault", 401))),
    "no that is cut off": (
        400,
        {},
        b'{"error": {"code": "2121',
        Outcome(PERMANENT, "", "400", taken_as("permanent", 400)),
    ),
    "throttled": (429, {}, b"", Outcome(THROTTLED, "", "429", taken_as("throttled", 429))),
    "throttled, with seconds": (
        429,
        {"retry-after": "7"},
        b"",
        Outcome(THROTTLED, "", "429", taken_as("throttled", 429), 7.0),
    ),
    "throttled, with a date": (
        429,
        {"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"},
        b"",
        Outcome(THROTTLED, "", "429", taken_as("throttled", 429), 30.0),
    ),
    "throttled by its code": (
        400,
        {"retry-after": "7"},
        b'{"error": {"code": "slow"}}',
        Outcome(THROTTLED, "", "slow", taken_as("throttled", 400), 7.0),
    ),
    "not throttled, with seconds": (
        503,
        {"retry-after": "7"},
        b"",
        Outcome(TRANSIENT, "", "503", taken_as("transient", 503)),
    ),
    "status of the settings over the table": (500, {}, b"", Outcome(TRANSIENT, "", "500", taken_as("transient", 500))),
    "status of the settings beside the table": (
        460,
        {},
        b"",
        Outcome(PERMANENT, "", "460", taken_as("permanent", 460)),
    ),
    "status by its class, 3xx": (302, {}, b"", Outcome(PROVIDER_FAULT, "", "302", taken_as("provider_fault", 302))),
    "status by its class, 4xx": (418, {}, b"", Outcome(PERMANENT, "", "418", taken_as("permanent", 418))),
    "status by its class, 5xx": (502, {}, b"", Outcome(AMBIGUOUS, "", "502", taken_as("ambiguous", 502))),
    "status of no class": (999, {}, b"", Outcome(AMBIGUOUS, "", "999", taken_as("ambiguous", 999))),
}


@pytest.mark.parametrize(("status", "headers", "body", "outcome"), ANSWERS.values(), ids=ANSWERS)
def test_answer_means_exactly_this(status: int, headers: dict[str, str], body: bytes, outcome: Outcome) -> None:
    assert dialect(**SETTINGS).read(Answer(status, headers, body, 1_767_225_600.0)) == outcome


ROWS = {
    400: PERMANENT,
    **dict.fromkeys((401, 402, 403, 404, 405, 406, 407), PROVIDER_FAULT),
    408: AMBIGUOUS,
    409: AMBIGUOUS,
    411: PROVIDER_FAULT,
    413: PERMANENT,
    414: PERMANENT,
    415: PROVIDER_FAULT,
    417: PROVIDER_FAULT,
    421: TRANSIENT,
    422: PERMANENT,
    425: TRANSIENT,
    426: PROVIDER_FAULT,
    428: PROVIDER_FAULT,
    429: THROTTLED,
    431: PROVIDER_FAULT,
    501: PROVIDER_FAULT,
    503: TRANSIENT,
    505: PROVIDER_FAULT,
    511: PROVIDER_FAULT,
}


def test_every_row_of_the_table_means_what_it_says() -> None:
    plain = dialect()
    assert {status: plain.read(Answer(status, {}, b"", 0.0)).kind for status in STATUSES} == ROWS


def test_yes_of_a_provider_that_names_no_word_for_it_is_any_document() -> None:
    assert dialect().read(Answer(200, {}, b"{}", 0.0)) == Outcome(ACCEPTED, "", "200")


# Looking up
# Garbage
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("accepted"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "ok", "data", "error", "code", "status", "0"]), inner, max_size=4)
    ),
    max_leaves=8,
)


GONE = (410,)
"""Means missing in some kit, besides what the kit itself shows."""

_BODIES = st.binary(max_size=40) | _JSON.map(lambda document: json.dumps(document).encode())


@pytest.mark.parametrize("kit", [kit for kit in KITS.values() if kit.dialect is None], ids=lambda kit: kit.adapter)
@given(status=st.integers(0, 999), body=_BODIES, pause=st.text(max_size=30))
def test_no_answer_breaks_the_reading(kit: Kit, status: int, body: bytes, pause: str) -> None:
    one = dialect_of(kit.provider(URL))
    answer = Answer(status, {"retry-after": pause}, body, 0.0)
    assert one.read(answer).kind in {ACCEPTED, AMBIGUOUS, PERMANENT, PROVIDER_FAULT, THROTTLED, TRANSIENT}
    if one.can_look_up:
        assert one.read_look_up(answer) is None or status in {kit.found.status, kit.missing.status, *GONE}
