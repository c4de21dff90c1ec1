"""Values of options: a wildcard is no name, an author is one line, and a time may be an age."""

import time
from typing import Any

import click
import pytest
from click.testing import CliRunner

from messaging import codec
from messaging.model import address_of
from ops.cli import cli
from ops.commands.options import author_option, since_option

MESSAGE_ID = "01a20165-7b42-748d-a7cf-cb216510c492"


@pytest.mark.parametrize("command", ["explain", "dlq show", "dlq replay", "dlq discard --yes"])
@pytest.mark.parametrize("client", ["*", ">", "*.*", "a b", "", "Default", "é"])
def test_wildcard_is_no_client(command: str, client: str):
    done = CliRunner().invoke(cli, [*command.split(), MESSAGE_ID, "--client", client])
    assert done.exit_code == 2
    assert "is not the name of a client" in done.stderr
    with pytest.raises(ValueError, match="client"):
        address_of(client, MESSAGE_ID)


@pytest.mark.parametrize("option", ["--provider", "--reason"])
@pytest.mark.parametrize("value", ["*", ">", "a.b", "", "é", "a b"])
def test_wildcard_is_no_provider_and_no_reason(option: str, value: str):
    done = CliRunner().invoke(cli, ["dlq", "list", option, value])
    assert (done.exit_code, "only letters" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [("status", "--request-id", "\udcff"), ("list", "--reference", "\udcff"), ("list", "--provider", "\ud800")],
)
def test_argument_that_is_not_utf8_is_wrong_usage(arguments: tuple[str, ...]):
    assert CliRunner().invoke(cli, arguments).exit_code == 2


@pytest.mark.parametrize("option", ["--provider", "--recipient", "--reference"])
@pytest.mark.parametrize("value", ["", " "])
def test_empty_filter_does_not_show_everything(option: str, value: str):
    done = CliRunner().invoke(cli, ["list", option, value])
    assert (done.exit_code, "must not be empty" in done.stderr) == (2, True)


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-nan"])
@pytest.mark.parametrize(
    "arguments", [("batch", __file__, "--patience"), ("dlq", "replay", "--ttl"), ("dlq", "replay", "--rate")]
)
def test_amount_is_a_finite_number(arguments: tuple[str, ...], value: str):
    done = CliRunner().invoke(cli, [*arguments, value])
    assert (done.exit_code, "Invalid value for" in done.stderr) == (2, True)


def test_label_has_one_value():
    done = CliRunner().invoke(cli, ["send", "+233201234567", "hi", "--label", "a=b", "--label", "a=c"])
    assert (done.exit_code, "names a key twice" in done.stderr) == (2, True)


def value_of(option: Any, *arguments: str) -> Any:
    """The value that a command with one option gets."""
    got: list[Any] = []
    command = click.command()(option(lambda **values: got.extend(values.values())))
    done = CliRunner().invoke(command, arguments)
    return got[0] if not done.exit_code else done.exit_code


def test_author_is_who_is_named_else_the_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_USER", "ann")
    assert value_of(author_option) == "ann"
    assert value_of(author_option, "--by", " ben ") == "ben"
    for wrong in ("", " ", "a\nb", "x" * 65, "\x1b[31m"):
        assert value_of(author_option, "--by", wrong) == 2


def test_time_may_be_an_age():
    found = codec.unix(value_of(since_option, "--since", "90m"))
    assert abs(time.time() - 5400 - found) < 60
    assert codec.unix(value_of(since_option, "--since", "2026-11-18T12:00:00Z")) == 1_795_003_200
    for wrong in ("yesterday", "-5m", "2026-11-18", "9999-99-99T00:00:00Z"):
        assert value_of(since_option, "--since", wrong) == 2
