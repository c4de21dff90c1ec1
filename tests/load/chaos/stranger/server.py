"""One stranger: listens, writes down when the bytes of each request arrived, and behaves as its mood says."""

import asyncio
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable
from typing import IO

from tests.load.chaos.stranger.moods import MOODS, Mood
from tests.load.chaos.stranger.stamps import STAMP_BYTES, stamp_of, with_stamps

_READ_BYTES = 65536
_BACKLOG = 1024


class Stranger:
    """A provider. Each line of `record` is a look-up, or a message that it has taken, with the time of its bytes."""

    def __init__(self, name: str, host: str, port: int, record: IO[str]) -> None:
        self.name = name
        self.mood: Mood = MOODS["well"]
        self._record = record
        self._tickets = itertools.count(1)
        self._found: dict[str, tuple[str, float]] = {}
        self._loop = asyncio.get_running_loop()
        self._lines: set[_Line] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with_stamps(self._listener)  # its connections have it from their first byte on
        self._listener.bind((host, port))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._admit)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for line in list(self._lines):
            line.end()

    def turn(self, mood: Mood) -> None:
        """Behave otherwise from now on."""
        self.mood = mood
        for line in list(self._lines):
            line.watch(on=not mood.unread)

    def _admit(self) -> None:
        with contextlib.suppress(BlockingIOError):
            peer, _address = self._listener.accept()
            self._lines.add(_Line(self, peer, self._lines.discard))

    def send(self, line: "_Line", tag: str, at_ns: int) -> None:
        """Receive one message: take it when the mood says so, whether the client still waits or not."""
        mood = self.mood
        self._loop.call_later(mood.hold_s, self._take, line, tag, at_ns, mood)

    def _take(self, line: "_Line", tag: str, at_ns: int, mood: Mood) -> None:
        ticket = f"{self.name}-{next(self._tickets)}"
        self._found.setdefault(tag, (ticket, time.monotonic() + mood.hide_s))
        self._write(at_ns, tag, time.time_ns())
        self._loop.call_later(mood.answer_s, line.answer, 202, {"ticket": ticket, "verdict": "on its way"})

    def look_up(self, line: "_Line", tag: str, at_ns: int) -> None:
        """Answer whether this message was taken, as far as it can be seen."""
        self._write(at_ns, tag, 0)
        ticket, visible_at = self._found.get(tag, ("", 0.0))
        if ticket and time.monotonic() >= visible_at:
            line.answer(200, {"ticket": ticket})
        else:
            line.answer(404, {"error": "never heard of it"})

    def _write(self, at_ns: int, tag: str, taken_ns: int) -> None:
        self._record.write(json.dumps({"at_ns": at_ns, "tag": tag, "taken_ns": taken_ns}) + "\n")


class _Line:
    """A connection. Requests come one after another; the time of one is the time of the bytes that began it."""

    def __init__(self, owner: Stranger, peer: socket.socket, on_end: Callable[["_Line"], None]) -> None:
        self._owner = owner
        self._peer = peer
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._began_ns = 0
        self._open = True
        peer.setblocking(False)
        self.watch(on=not owner.mood.unread)

    def watch(self, *, on: bool) -> None:
        """Read what comes, or leave it in the kernel."""
        if on:
            self._loop.add_reader(self._peer, self._read)
        else:
            self._loop.remove_reader(self._peer)

    def _read(self) -> None:
        try:
            data, extra, _flags, _address = self._peer.recvmsg(_READ_BYTES, STAMP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        if not self._held:
            self._began_ns = stamp_of(extra)
        self._held += data
        self._serve()

    def _serve(self) -> None:
        head, found, rest = bytes(self._held).partition(b"\r\n\r\n")
        if not found:
            return
        first, *fields = head.decode("latin-1").split("\r\n")
        sizes = [int(one.partition(":")[2]) for one in fields if one.lower().startswith("content-length:")]
        size = sizes[0] if sizes else 0
        if len(rest) < size:
            return
        self._held = bytearray(rest[size:])
        method, path, _version = first.split(" ")
        if method == "POST":
            self._owner.send(self, str(json.loads(rest[:size])["tag"]), self._began_ns)
        else:
            self._owner.look_up(self, path.rpartition("/")[2], self._began_ns)

    def answer(self, status: int, document: object) -> None:
        """Answer, if the client is still there."""
        if not self._open:
            return
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            self._peer.send(head.encode() + body)
        except OSError:
            self.end()

    def end(self) -> None:
        """Close the connection."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._peer)
            self._peer.close()
            self._on_end(self)
