"""Runs other programs and tells what happened."""

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
    """A command failed, or something did not come about in time; the sentence tells which."""


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
    """Run a command and give what it prints on standard output; raises Failed with all of its words."""
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
    """Ask until the answer is yes, a failed command being a no; raises Failed."""
    end = time.monotonic() + within_s
    told = ""
    while time.monotonic() < end:
        try:
            if asked():
                return
        except Failed as exc:
            told = f": {exc}"
        time.sleep(0.5)
    raise Failed(f"{what} did not come about in {within_s:g} s{told}")
