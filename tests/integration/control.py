"""Runs smsctl in tests, in this process where that is enough, and what its tests share."""

import json
import pathlib
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from click.testing import CliRunner, Result

from ops.cli import cli
from ops.system import System

Smsctl: TypeAlias = Callable[..., Result]
SMSCTL = str(pathlib.Path(sys.executable).parent / "smsctl")
NUMBER, TEXT = "+233201234567", "Meet me at the harbour"


def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    """Run a command in a thread of this process, because it has its own event loop."""
    with ThreadPoolExecutor(1) as pool:
        invoke = CliRunner().invoke
        return pool.submit(invoke, cli, arguments, input=stdin, env=environment, prog_name="smsctl").result()


def document(result: Result) -> Any:
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def sent(smsctl: Smsctl, *options: str) -> str:
    answer = document(smsctl("send", NUMBER, TEXT, "--json", *options))
    return str(answer["message_id"])


def until(smsctl: Smsctl, message_id: str, *states: str, within_s: float = 40.0) -> str:
    """Wait until a message is in one of these states; return that state."""
    end = time.monotonic() + within_s
    while True:
        found = document(smsctl("status", message_id, "--json"))
        name = str(found["state"]).removeprefix("MESSAGE_STATE_")
        if name in states:
            return name
        assert time.monotonic() < end, found
        time.sleep(0.1)


def said_in_one_sentence(result: Result, code: int, *parts: str) -> None:
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


def behave(system: System, provider: str, **behaviour: Any) -> None:
    data = json.dumps({"latency_s": 0.02, **behaviour}).encode()
    request = urllib.request.Request(system.simulators[provider] + "/_behaviour", data, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
