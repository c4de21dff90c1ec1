"""Another user of this machine: runs a function as `nobody`, with no group and no capability."""

import encodings.idna
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

NOBODY = 65_534
_NEEDED_LATER = (encodings.idna,)
"""What the fork would load by itself, from folders that `nobody` may not enter."""


def as_nobody(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a fork that has become `nobody`; return what it returned, as JSON."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _become_nobody_and_tell(function, arguments, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        answer = json.loads(told.read() or b'{"problem": "it said nothing"}')
    os.waitpid(child, 0)
    assert "problem" not in answer, answer["problem"]
    return answer["result"]


def _become_nobody_and_tell(function: Callable[..., Any], arguments: tuple[Any, ...], writer: int) -> None:
    try:
        os.chdir("/")
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        answer = {"result": function(*arguments)}
    except BaseException:  # noqa: BLE001 - told to the parent
        answer = {"problem": traceback.format_exc()}
    os.write(writer, json.dumps(answer).encode())
    sys.stdout.flush()
    os._exit(0)
