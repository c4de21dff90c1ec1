"""One connection to a simulated provider: reads with the kernel's arrival times, and answers in order."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ops.simulator.behaviour import ResponseMode
from ops.simulator.http import BadRequest, Reply, RequestReader
from ops.simulator.service import PlannedReply, Service

SO_TIMESTAMPNS = 35  # Linux; the socket module has no name for it
READ_BYTES = 64 * 1024
LINGER_S = 1.0  # how long the peer may take to close after our last byte

_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)


def arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return when a chunk reached the kernel, in Unix nanoseconds; the current time when the kernel did not report it.

    The kernel merges segments that have not been read yet, and then reports the time of the last one.
    """
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


@dataclass(slots=True)
class QueuedReply:
    """One reply that waits for its turn; `due` is in the event loop's time, `last` closes the connection."""

    plan: PlannedReply
    data: bytes
    due: float
    last: bool


class PeerConnection:
    """Owns an accepted socket until it calls `closed`, once.

    A request is handled as soon as it is read, so it is recorded even while an earlier one waits. Nothing is read after
    a request that closes the connection.
    """

    def __init__(self, sock: socket.socket, service: Service, closed: Callable[["PeerConnection"], None]) -> None:
        self.writer_task: asyncio.Task[None] | None = None
        self._sock = sock
        self._service = service
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader()
        self._steps: deque[QueuedReply] = deque()
        self._ignores_input = False  # whatever still arrives is discarded
        self._peer_done = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, self._readable)

    def close(self) -> None:
        """Close the connection at once; requests without a reply are finished as unanswered."""
        if self._sock.fileno() < 0:
            return
        self._ignores_input = True
        self._loop.remove_reader(self._sock)
        # A cancelled sock_sendall removes its writer one loop turn later, when another connection may have this
        # file descriptor.
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if self._linger is not None:
            self._linger.cancel()
        if self.writer_task is not None and self.writer_task is not asyncio.current_task():
            self.writer_task.cancel()
        while self._steps:
            self._service.finish(self._steps.popleft().plan, answered=False)
        self._closed(self)

    def _readable(self) -> None:
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self._peer_ended()
        elif not self._ignores_input:
            self._reader.feed(data, arrival_ns(ancillary))
            self._take_requests()

    def _peer_ended(self) -> None:
        self._loop.remove_reader(self._sock)
        self._peer_done.set()
        if not self._steps:
            self.close()

    def _take_requests(self) -> None:
        try:
            while not self._ignores_input and (request := self._reader.next_request()) is not None:
                self._plan(self._service.answer(request), keep_alive=request.keep_alive)
        except BadRequest as error:
            body = json.dumps({"error": {"code": "malformed_request", "problem": error.problem}}).encode()
            self._plan(PlannedReply(Reply(error.status, body)), keep_alive=False)

    def _plan(self, plan: PlannedReply, *, keep_alive: bool) -> None:
        last = not keep_alive or plan.mode in {ResponseMode.HANG, ResponseMode.RESET}
        self._ignores_input = self._ignores_input or last
        data = b"" if plan.reply is None else plan.reply.encode(keep_alive=not last)
        step = QueuedReply(plan, data, self._loop.time() + plan.delay_s, last)
        self._steps.append(step)
        if self.writer_task is not None:
            return
        if plan.delay_s == 0 and plan.mode in {ResponseMode.WHOLE, ResponseMode.GARBLE} and self._sent_whole(step):
            self._settle(answered=True)  # the common case needs no task
        elif self._steps:
            self.writer_task = self._loop.create_task(
                self._answer_all(), name=f"simulator {self._service.name} answers"
            )

    def _sent_whole(self, step: QueuedReply) -> bool:
        try:
            step.data = step.data[self._sock.send(step.data) :]
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.close()
            return False
        return not step.data

    async def _answer_all(self) -> None:
        try:
            while self._steps:
                await asyncio.sleep(self._steps[0].due - self._loop.time())
                self._settle(answered=await self._act(self._steps[0]))
        except OSError:  # the peer went away
            self.close()
        self.writer_task = None

    def _settle(self, *, answered: bool) -> None:
        step = self._steps.popleft()
        self._service.finish(step.plan, answered=answered)
        if step.plan.mode is ResponseMode.RESET:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()
        elif self._peer_done.is_set() and not self._steps:
            self.close()
        elif step.last:
            # Closing with unread bytes would reset the connection, and the peer would lose the reply.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self._linger = self._loop.call_later(LINGER_S, self.close)

    async def _act(self, step: QueuedReply) -> bool:
        match step.plan.mode:
            case ResponseMode.WHOLE | ResponseMode.GARBLE:
                await self._loop.sock_sendall(self._sock, step.data)
                return True
            case ResponseMode.TRICKLE:
                await self._trickle(step)
                return True
            case ResponseMode.HANG:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._peer_done.wait(), step.plan.lasts_s)
                return False
            case ResponseMode.RESET:
                return False

    async def _trickle(self, step: QueuedReply) -> None:
        start, gap_s = self._loop.time(), step.plan.lasts_s / len(step.data)
        for index in range(len(step.data)):
            due = start + gap_s * (index + 1)
            await asyncio.sleep(due - self._loop.time())
            await self._loop.sock_sendall(self._sock, step.data[index : index + 1])
