"""`python -m tests.load.chaos.stranger FOLDER HOST NAME:PORT…`: serves strangers until killed."""

import asyncio
import contextlib
import json
import pathlib
import socket
import sys
from collections.abc import Mapping

from tests.load.chaos.stranger.moods import MOODS
from tests.load.chaos.stranger.server import Stranger


class Control(asyncio.DatagramProtocol):
    """Turns moods as datagrams say."""

    def __init__(self, strangers: Mapping[str, Stranger]) -> None:
        self._strangers = strangers

    def datagram_received(self, data: bytes, _address: object) -> None:
        """Apply one document."""
        document = json.loads(data)
        self._strangers[document["name"]].turn(MOODS[document["mood"]])


async def main(folder: pathlib.Path, host: str, names: list[str]) -> None:
    """Serve until killed."""
    with contextlib.ExitStack() as files:
        strangers = {}
        for name, _, port in (one.partition(":") for one in names):
            record = files.enter_context((folder / f"{name}.jsonl").open("w", buffering=1))
            strangers[name] = Stranger(name, host, int(port), record)
        control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        control.bind(str(folder / "strangers.sock"))
        control.setblocking(False)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: Control(strangers), sock=control)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
