"""JSON and forms, and a value at a path."""

from typing import Any

import pytest

from providers.bodies import form_body, json_body, read_json, text_at

DOCUMENT = {"id": 7, "ok": True, "rate": 0.5, "data": [{"id": "p-9"}, [3]], "none": None, "": "empty", "a.b": "dots"}

PATHS = {
    "": "",
    "id": "7",
    "ok": "true",
    "rate": "0.5",
    "data.0.id": "p-9",
    "data.1.0": "3",
    "data": "",
    "data.0": "",
    "data.2.id": "",
    "data.-1": "",
    "data.²": "",
    "data.x": "",
    "none": "",
    "id.x": "",
    "nothing": "",
    "a.b": "",
    ".": "",
}


@pytest.mark.parametrize(("path", "text"), PATHS.items(), ids=PATHS)
def test_value_at_a_path_is_text_as_json_spells_it(path: str, text: str) -> None:
    assert text_at(DOCUMENT, path) == text


@pytest.mark.parametrize("document", [None, 7, "text", [], {}])
def test_path_through_nothing_ends_in_nothing(document: Any) -> None:
    assert text_at(document, "a.0.b") == ""


def test_json_is_compact_and_a_form_is_quoted() -> None:
    assert json_body({"to": "é", "n": [1, None]}) == '{"to":"é","n":[1,null]}'.encode()
    assert form_body([("to", "+233"), ("text", "é & b"), ("to", "x")]) == b"to=%2B233&text=%C3%A9+%26+b&to=x"


UNREADABLE = [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1} x', b"1" * 5000]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_body_that_is_no_json_is_nothing(body: bytes) -> None:
    assert read_json(body) is None
