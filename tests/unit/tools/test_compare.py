import copy
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tools.conformance.__main__ import compare_output
from tools.conformance.clients import CLIENTS, EXAMPLES, ClientFailed, version
from tools.conformance.compare import ANY_TEXT, differences, facts

EXPECTED = json.loads((EXAMPLES / "expected.json").read_text())


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    else:
        yield path


def doctored(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    node = changed
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


LEAVES = list(leaves(EXPECTED))


def test_the_document_agrees_with_itself() -> None:
    assert differences(EXPECTED, EXPECTED) == []


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("value", ["something else", None, -7], ids=["changed", "gone", "of another kind"])
def test_a_doctored_leaf_is_seen_and_named(path: tuple[Any, ...], value: Any) -> None:
    seen = EXPECTED
    for leaf in LEAVES:  # what a client would say where any text will do
        seen = doctored(seen, leaf, "a text") if _at(EXPECTED, leaf) == ANY_TEXT else seen
    expected = doctored(EXPECTED, path, "the right text") if _at(EXPECTED, path) == ANY_TEXT else EXPECTED
    found = differences(expected, doctored(seen, path, value))
    assert len(found) == 1
    assert str(next(key for key in path if isinstance(key, str))) in found[0]


def _at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def test_a_field_too_many_is_seen() -> None:
    assert differences(EXPECTED, {**EXPECTED, "more": 1}) == ["more: not expected, saw 1"]


@pytest.mark.parametrize(
    ("expected", "seen", "same"),
    [
        (2, 2.0, True),
        (1, True, False),
        (True, 1, False),
        (2, "2", False),
        (None, False, False),
        ([], {}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        (ANY_TEXT, "any", True),
        (ANY_TEXT, "", False),
        (ANY_TEXT, 1, False),
        ("any", ANY_TEXT, False),
    ],
)
def test_kinds_and_orders_count(expected: Any, seen: Any, *, same: bool) -> None:
    assert (differences(expected, seen) == []) is same


def test_a_client_may_say_its_name_and_nothing_else_of_its_own() -> None:
    assert facts({"client": "python", "sent": 1}) == {"sent": 1}


def test_a_client_that_printed_something_else_has_failed() -> None:
    for printed in ("", "hello", "[1]", '{"a": 1} {"b": 2}'):
        with pytest.raises(ClientFailed, match="JSON"):
            compare_output(printed, EXPECTED)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("v20.20.2", (20, 20, 2)),
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ('openjdk version "17.0.15" 2025-04-15', (17, 0, 15)),
        ("\x1b[1mApache Maven 3.8.7\x1b[m", (3, 8, 7)),
        ("none at all", ()),
    ],
)
def test_the_version_of_a_tool_chain_is_found(told: str, found: tuple[int, ...]) -> None:
    assert version(told) == found


def test_every_example_is_known_and_has_a_readme() -> None:
    folders = {one.name for one in EXAMPLES.iterdir() if (one / "README.md").exists()}
    assert folders == {client.name for client in CLIENTS}


def test_the_python_example_runs_on_what_the_project_locks() -> None:
    lock = (EXAMPLES.parent / "requirements.lock").read_text()
    pins = [line for line in (EXAMPLES / "python" / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pins) >= 4
    for pin in pins:
        assert f"{pin} \\" in lock, pin


def test_no_lock_file_names_a_registry() -> None:
    locks = list(EXAMPLES.glob("*/package-lock.json"))
    assert locks
    assert not any('"resolved"' in pathlib.Path(lock).read_text() for lock in locks)
