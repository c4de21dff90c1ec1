"""Runs other programs and prints the transcript."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
TOOLS = ROOT / "var" / "tools"
_BEGAN = time.monotonic()


class Failed(Exception):
    """A command failed, or a condition did not hold in time; the sentence says which."""


def say(text: str) -> None:
    """Print a line of the transcript, with the seconds since the start."""
    sys.stdout.write(f"{time.monotonic() - _BEGAN:6.1f}  {text}\n")
    sys.stdout.flush()


def run(
    *command: str | pathlib.Path,
    text: str | None = None,
    folder: pathlib.Path | None = None,
    within_s: float = 600.0,
    **environment: str,
) -> str:
    """Run a command and return its standard output; raises Failed with the end of its output."""
    words = list(map(str, command))
    try:
        done = subprocess.run(  # noqa: S603 - our own tools
            words,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            timeout=within_s,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired as exc:
        raise Failed(f"{' '.join(words)} took more than {within_s:g} s") from exc
    if done.returncode:
        raise Failed(f"{' '.join(words)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def wait(what: str, asked: Callable[[], bool], within_s: float) -> None:
    """Call `asked` until it returns True; Failed counts as False. Raises Failed after `within_s`."""
    end = time.monotonic() + within_s
    error = ""
    while time.monotonic() < end:
        try:
            if asked():
                return
        except Failed as exc:
            error = f": {exc}"
        time.sleep(0.5)
    raise Failed(f"{what}: not reached within {within_s:g} s{error}")
