"""The kernel's time of what a socket received."""

import socket
import struct

_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("qq")
STAMP_BYTES = socket.CMSG_SPACE(_STAMP.size)

Extra = list[tuple[int, int, bytes]]


def with_stamps(receiver: socket.socket) -> None:
    """Ask the kernel for the time of what this socket receives, or what is accepted by it.

    The time is that of the last segment that one read returns. A closing FIN counts as one, a reset does not.
    """
    receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def stamp_of(extra: Extra) -> int:
    """Return the time (Unix nanoseconds) that came with a `recvmsg`; raises LookupError when none did."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _STAMP.unpack(data[: _STAMP.size])
            return int(seconds * 1_000_000_000 + nanoseconds)
    raise LookupError("the kernel gave no time")
