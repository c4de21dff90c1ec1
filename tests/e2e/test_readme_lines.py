"""The README's grpcurl and buf curl lines, also with the newest grpcurl that Go installs."""

import asyncio
import json
import pathlib
import shlex
import subprocess
import sys

import pytest
from rig import Rig

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
TODAYS = ROOT / "var" / "tools" / "grpcurl"


def lines(tool: str) -> list[str]:
    return [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f".venv/bin/{tool} ")]


async def run(rig: Rig, line: str, program: pathlib.Path, message_id: str = "") -> dict[str, object]:
    words = shlex.split(line.replace("127.0.0.1:50051", rig.system.gateways[0]).replace("MESSAGE_ID", message_id))
    command = [str(program), *words[1:]]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("program", [BIN / "grpcurl", TODAYS], ids=["of the wheel", "of today"])
async def test_lines_with_grpcurl_and_buf_curl_work(rig: Rig, program: pathlib.Path) -> None:
    if not program.exists():
        pytest.skip("`make var/tools/grpcurl` installs today's grpcurl where Go is there")
    send, ask = lines("grpcurl")
    [ask_with_buf] = lines("buf")
    sent = await run(rig, send, program)
    assert sent["state"] == "MESSAGE_STATE_ACCEPTED"
    message_id = str(sent["messageId"])
    await rig.until(message_id, "SENT")
    for line, with_what in ((ask, program), (ask_with_buf, BIN / "buf")):
        told = await run(rig, line, with_what, message_id)
        assert told["status"]["messageId"] == message_id  # type: ignore[index]
        assert told["status"]["state"] == "MESSAGE_STATE_SENT"  # type: ignore[index]
