"""Look-ups of the generic dialect: what is asked, and what a yes and a no are worth. Nothing is sent."""

import json
from typing import Any

import pytest

from providers.base import ACCEPTED, TRANSIENT, Answer, Outcome, Request
from tests.unit.providers.test_http_generic import YES, dialect


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("/v2/status/{message_id}", "https://api.example/v2/status/a%2F..%3Fb"),
        ("https://other.example/{message_id}?x=1", "https://other.example/a%2F..%3Fb?x=1"),
    ],
)
def test_look_up_asks_exactly_this(url: str, asked: str) -> None:
    one = dialect(look_up={"url": url}, headers={"Api-Key": "{secret.key}", "X-Ref": "{message_id}"})
    assert one.can_look_up
    assert one.look_up_request("a/..?b", "00-t") == Request(
        "GET", asked, {"api-key": "s3cret", "x-ref": "", "traceparent": "00-t"}
    )


KNOWN: dict[str, tuple[int, bytes, Outcome | None]] = {
    "found": (200, YES, Outcome(ACCEPTED, "p-9", detail="found by look-up")),
    "a yes that shows no message": (200, b"{}", None),
    "an empty list": (200, b"[]", None),
    "an empty id": (200, b'{"data": [{"id": ""}]}', None),
    "an id that is null": (200, b'{"data": [{"id": null}]}', None),
    "an id that is no single value": (200, b'{"data": [{"id": {}}]}', None),
    "no document": (203, b"", None),
    "missing": (410, YES, Outcome(TRANSIENT, "", "410", "the provider does not know the message")),
    "another status": (404, b"", None),
    "busy": (503, b"", None),
}


@pytest.mark.parametrize(("status", "body", "outcome"), KNOWN.values(), ids=KNOWN)
def test_look_up_means_exactly_this(status: int, body: bytes, outcome: Outcome | None) -> None:
    settings = {
        "url": "/{message_id}",
        "found": [200, 203],
        "missing": [410],
        "id_path": "data.0.id",
        "authoritative": True,
    }
    assert dialect(look_up=settings).read_look_up(Answer(status, {}, body, 0.0)) == outcome


@pytest.mark.parametrize(("status", "yes"), [("sent", True), ("unknown", False), ("", False)])
def test_look_up_with_a_success_path_says_yes_by_its_value_only(status: str, *, yes: bool) -> None:
    one = dialect(look_up={"url": "/", "id_path": "id", "success_path": "status", "success_values": ["sent"]})
    found = one.read_look_up(Answer(200, {}, json.dumps({"id": "p-9", "status": status}).encode(), 0.0))
    assert found == (Outcome(ACCEPTED, "p-9", detail="found by look-up") if yes else None)


def test_look_up_without_a_path_of_its_own_finds_the_id_where_the_answer_to_a_send_has_it() -> None:
    one = dialect(id_path="message.id", look_up={"url": "/"})
    found = one.read_look_up(Answer(200, {}, b'{"message": {"id": "p-9"}}', 0.0))
    assert found == Outcome(ACCEPTED, "p-9", detail="found by look-up")


def test_no_of_a_look_up_that_is_not_authoritative_says_nothing() -> None:
    assert dialect(look_up={"url": "/"}).read_look_up(Answer(404, {}, b"", 0.0)) is None


@pytest.mark.parametrize(("settings", "expected"), [({}, 60.0), ({"missing_after_s": 5}, 5.0)])
def test_no_of_a_look_up_counts_only_some_time_after_the_attempt(settings: dict[str, Any], expected: float) -> None:
    assert dialect(look_up={"url": "/", **settings}).missing_after_s == expected


def test_provider_without_look_up_says_so() -> None:
    one = dialect()
    assert not one.can_look_up
    with pytest.raises(ValueError, match="has no look-up"):
        one.look_up_request("m-1", "00-t")
