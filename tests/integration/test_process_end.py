"""A process ends when its work has ended, whatever else still runs in it."""

import subprocess
import sys

import pytest

_BEGIN = """
import asyncio, sys
from messaging.errors import StreamDown
from messaging.runtime.process import run_to_end

async def deaf():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def orderly():
    await asyncio.sleep(60)

async def work():
    global task
    task = asyncio.create_task(%s(), name="library")
    await asyncio.sleep(0)
    %s

sys.exit(run_to_end(work))
"""


@pytest.mark.parametrize(("task", "told"), [("deaf", True), ("orderly", False)])
@pytest.mark.parametrize(("end", "code"), [("return", 0), ("raise StreamDown('connecting')", 69)])
def test_task_that_ignores_its_cancellation_does_not_keep_the_process_alive(
    task: str, end: str, code: int, *, told: bool
) -> None:
    program = _BEGIN % (task, end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert ("would not end" in said and "library" in said) == told
