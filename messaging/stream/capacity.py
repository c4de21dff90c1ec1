"""Finds how much a nats-server may store where the account has no limit of its own.

A server does not tell its limit (max_file_store, by default three quarters of the disk's free space). But it refuses a
stream that wants to reserve more than is left; so the limit is found by asking for less and less. Nothing is stored,
and the probe is deleted at once. Only a single server is asked: in a cluster, the account should have a limit.
"""

import structlog

from messaging.errors import StreamDown
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

_PROBE = "SMS_PROBE"
_NO_STORAGE, _IN_USE = 10047, 10058
_MOST_BYTES = 2**50
_PRECISION = 32
"""The search ends when the limit is known to this fraction (1/32)."""


async def server_capacity(connection: Connection) -> int | None:
    """Return how many bytes the server may store, about; None when it does not say or has no limit worth naming."""
    try:
        return await _search(connection)
    except (ApiError, StreamDown) as exc:
        _log.debug("the server's capacity is not known", error=str(exc))
        return None


async def _search(connection: Connection) -> int | None:
    reserved = int((await connection.api("INFO")).get("reserved_storage", 0))
    fits, too_much = 0, _MOST_BYTES
    if await _may_reserve(connection, too_much):
        return None
    wanted = 2**20
    while wanted < too_much and await _may_reserve(connection, wanted):
        fits, wanted = wanted, wanted * 4
    too_much = min(wanted, too_much)
    while too_much - fits > max(2**18, fits // _PRECISION):
        middle = (fits + too_much) // 2
        if await _may_reserve(connection, middle):
            fits = middle
        else:
            too_much = middle
    return fits + reserved


async def _may_reserve(connection: Connection, size_bytes: int) -> bool:
    body = {"name": _PROBE, "storage": "file", "max_bytes": size_bytes, "discard": "new", "num_replicas": 1}
    try:
        await connection.api(f"STREAM.CREATE.{_PROBE}", body)
    except ApiError as exc:
        if exc.code == _NO_STORAGE:
            return False
        if exc.code == _IN_USE:  # another process asks too, or one that asked was killed
            await connection.api(f"STREAM.DELETE.{_PROBE}")
        raise
    await connection.api(f"STREAM.DELETE.{_PROBE}")
    return True
