"""What commands print of hostile data: escapes, never control or bidi characters."""

import json
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner
from sms.dispatch.v1 import dispatch_pb2 as wire

from ops.cli import cli
from ops.commands.failure import Failure
from ops.commands.output import as_document, console, print_json, print_line, say, table
from tests.unit.messaging.test_printable import EVIL, is_harmless

DATA = EVIL.replace("\ud800", "")  # no file and no terminal can hold half a surrogate pair


def record() -> wire.Event:
    return wire.Event(message_id="m", reason=DATA, detail=DATA, provider=DATA, pod=DATA)


WAYS: dict[str, Callable[[], None]] = {
    "a table": lambda: console().print(table((("why"), "detail"), [(DATA, DATA)])),
    "a narrow table": lambda: console().print(table(("a", "b", "c", "why"), [(DATA * 9,) * 4])),
    "a document": lambda: print_json(as_document(record())),
    "a row": lambda: print_line(as_document(record())),
    "a line": lambda: say(DATA),
    "a failure": lambda: Failure(DATA, 1, (DATA, DATA)).show(),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_from_data_reaches_the_output_unescaped(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way]()
    told = capsys.readouterr()
    lines = (told.out + told.err).split("\n")
    assert any("forged" in line for line in lines)
    assert all(map(is_harmless, "".join(lines)))
    assert not any(line.startswith('{"event": "forged"') for line in lines)


def test_documents_mean_what_the_record_holds(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(as_document(record()))
    assert json.loads(capsys.readouterr().out)["detail"] == DATA


@pytest.mark.parametrize(
    "words", [["status", DATA], [DATA], ["dlq", "list", "--provider", DATA], ["list", f"--{DATA}"]]
)
def test_wrong_usage_repeats_nothing_unescaped(words: list[str]) -> None:
    told = CliRunner().invoke(cli, words)
    assert told.exit_code == 2
    assert all(map(is_harmless, told.output.replace("\n", "")))


def test_failure_of_a_command_is_escaped_too() -> None:
    @click.command()
    def fails() -> None:
        raise Failure(DATA)

    told = CliRunner().invoke(fails)
    assert told.exit_code == 1
    assert all(map(is_harmless, told.output.replace("\n", "")))
