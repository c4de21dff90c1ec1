"""Connections whose undelivered bytes die with the call: what was given up does not reach the provider later.

While a call is under way, closing its connection discards what the kernel has not delivered, also when it is closed
because the process died. When the process is only stopped, the kernel gives the bytes up after the time-out.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import aiohttp

_DISCARD, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""SO_LINGER: what closing a connection does with bytes that are not delivered yet."""


class Connector(aiohttp.TCPConnector):
    """Tells each call which connection it got. With `keepalive_s` 0 each call gets a new one."""

    def __init__(
        self,
        *,
        limit: int,
        keepalive_s: float,
        timeout_s: float,
        on_connection: Callable[[asyncio.BaseTransport | None], None],
    ) -> None:
        kept: dict[str, Any] = {"keepalive_timeout": max(keepalive_s, 0.001)} if keepalive_s else {"force_close": True}
        super().__init__(limit=limit, socket_factory=_sockets(timeout_s), **kept)
        self._on_connection = on_connection

    async def connect(self, *args: Any, **named: Any) -> aiohttp.connector.Connection:
        """Get a connection, in the task of the call."""
        connection = await super().connect(*args, **named)
        self._on_connection(connection.transport)
        return connection


def _sockets(timeout_s: float) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    def make(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        with contextlib.suppress(OSError, AttributeError):  # only Linux has it
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))
        return made

    return make


def begin(transport: asyncio.BaseTransport | None) -> None:
    """Note that a call's bytes are about to be written."""
    _set_linger(transport, _DISCARD)


def end(transport: asyncio.BaseTransport | None, *, answered: bool) -> None:
    """Keep the connection of an answered call; of another one, discard what is neither written nor delivered."""
    if answered:
        _set_linger(transport, _DELIVER)
    elif isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _set_linger(transport: asyncio.BaseTransport | None, linger: bytes) -> None:
    connected = transport.get_extra_info("socket") if transport is not None else None
    if connected is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
