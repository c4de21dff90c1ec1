"""`python -m tests.load.chaos.net.wire`: the only way to the strangers, which loses and delays packets.

It holds one end of the wire in this namespace and the other in the strangers', and forwards the packets between them.
So the kernels on both sides retransmit for real. What leaves our side is seen with the kernel's time stamp before it
can be lost: the first packet of each request is written to the file of departures.
"""

import asyncio
import fcntl
import json
import os
import pathlib
import random
import socket
import struct
import sys
from typing import IO

from tests.load.chaos.net.namespaces import Namespace, ip
from tests.load.chaos.stranger.stamps import STAMP_BYTES, stamp_of, with_stamps

OURS, THEIRS = "10.98.0.1", "10.98.0.2"
NAME = "wire"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_ETH_P_ALL = 0x0003
_MTU = 65536
_TCP = 6
_REQUESTS = (b"POST ", b"GET ")


def lay() -> tuple[Namespace, int, int]:
    """Make the strangers' namespace and the two ends of the wire: ours, and theirs."""
    namespace = Namespace()
    near = _end(OURS, THEIRS)
    return namespace, near, namespace.run(lambda: _end(THEIRS, OURS))


def _end(own: str, peer: str) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", NAME.encode(), _IFF_TUN | _IFF_NO_PI))
    ip(f"addr add {own} peer {peer} dev {NAME}")
    ip(f"link set {NAME} up")
    return tun


class Wire:
    """Forwards packets; loses each with probability `loss`, and delays it by `delay_s`."""

    def __init__(self, near: int, far: int, departures: IO[str]) -> None:
        self.loss = 0.0
        self.delay_s = 0.0
        self._ends = (near, far)
        self._departures = departures
        self._seen: set[bytes] = set()
        self._loop = asyncio.get_running_loop()
        self._tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._tap.bind((NAME, _ETH_P_ALL))
        self._tap.setblocking(False)
        self._tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        with_stamps(self._tap)

    def start(self) -> None:
        """Forward from now on."""
        near, far = self._ends
        self._loop.add_reader(self._tap, self._note)
        self._loop.add_reader(near, self._forward, near, far)
        self._loop.add_reader(far, self._forward, far, near)

    def _forward(self, source: int, target: int) -> None:
        packet = os.read(source, _MTU)
        if self.loss and random.random() < self.loss:
            return
        if self.delay_s:
            self._loop.call_later(self.delay_s, _write, target, packet)
        else:
            _write(target, packet)

    def _note(self) -> None:
        packet, extra, _flags, address = self._tap.recvmsg(_MTU, STAMP_BYTES)
        if address[2] != socket.PACKET_OUTGOING or len(packet) < 40 or packet[9] != _TCP:
            return
        head = (packet[0] & 15) * 4
        payload = packet[head + (packet[head + 12] >> 4) * 4 :]
        place = packet[head : head + 8]  # ports and sequence number: a retransmission repeats them
        if not payload.startswith(_REQUESTS) or place in self._seen:
            return
        self._seen.add(place)
        [port] = struct.unpack(">H", packet[head + 2 : head + 4])
        self._departures.write(json.dumps({"at_ns": stamp_of(extra), "port": port}) + "\n")


def _write(target: int, packet: bytes) -> None:
    try:
        os.write(target, packet)
    except BlockingIOError:
        return  # a full queue loses packets, as a switch does


class Control(asyncio.DatagramProtocol):
    """Sets loss and delay as datagrams say."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def datagram_received(self, data: bytes, _address: object) -> None:
        """Apply one document."""
        document = json.loads(data)
        self._wire.loss, self._wire.delay_s = document["loss"], document["delay_s"]


async def main(near: int, far: int, folder: pathlib.Path) -> None:
    """Forward until killed."""
    with (folder / "departures.jsonl").open("w", buffering=1) as departures:
        wire = Wire(near, far, departures)
        loop = asyncio.get_running_loop()
        control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        control.bind(str(folder / "wire.sock"))
        control.setblocking(False)
        await loop.create_datagram_endpoint(lambda: Control(wire), sock=control)
        wire.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])))
