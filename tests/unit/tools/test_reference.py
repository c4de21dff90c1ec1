"""The API reference lists every reason that a program can meet."""

import ast
import pathlib
import re

import pytest

from gateway_grpc.errors import CODES, code_of
from messaging import errors
from messaging.reasons import REASONS
from tools.reference import NOT_FOR_CALLERS

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text()
WRITERS = [
    *(ROOT / "dispatcher" / "work").glob("*.py"),
    *(ROOT / "dispatcher" / "duties").glob("*.py"),
    ROOT / "gateway_grpc" / "lookup.py",
    ROOT / "ops" / "dead_letters.py",
]
NO_REASONS = re.compile(r"(MESSAGE_STATE|ATTEMPT_OUTCOME|NEXT_STEP|PRIORITY)_[A-Z]*|SMS_[A-Z]*|[A-Z]+_S")


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in cells}


def kinds(kind: type[errors.GatewayError] = errors.GatewayError) -> list[type[errors.GatewayError]]:
    return [
        kind,
        *(one for child in kind.__subclasses__() for one in kinds(child) if one.__module__ == errors.__name__),
    ]


def written() -> set[str]:
    """Every text that looks like a reason, in the modules that write events."""
    found = set()
    for path in WRITERS:
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch("[A-Z]+(_[A-Z]+)*", text) and len(text) > 3:
                found.add(text)
    return {text for text in found if not NO_REASONS.fullmatch(text)}


def test_every_reason_of_a_message_is_listed_and_is_written_somewhere() -> None:
    assert written() == set(REASONS)
    assert {name: [text] for name, text in REASONS.items()} == rows("Reasons")


@pytest.mark.parametrize("kind", [one for one in kinds() if not issubclass(one, NOT_FOR_CALLERS)])
def test_every_error_that_a_caller_can_get_is_listed_with_its_code(kind: type[errors.GatewayError]) -> None:
    listed = rows("Errors")
    if kind.reason in listed:
        assert listed[kind.reason][0] == f"`{code_of(kind.__new__(kind)).name}`"
    else:
        below = {one.reason for one in kinds(kind)[1:]}
        assert below, f"{kind.reason} is not listed"
        assert below & set(listed), "callers get the errors below it"


def test_nothing_is_listed_that_the_code_does_not_know() -> None:
    assert set(rows("Errors")) <= {one.reason for one in kinds()}
    assert set(rows("Errors")).isdisjoint({one.reason for other in NOT_FOR_CALLERS for one in kinds(other)})
    assert len(CODES) >= len(rows("Errors"))
