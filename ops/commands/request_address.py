"""Finds a message by its request_id: in the stream for as long as it is remembered there, else in the history."""

from messaging.model import Address, address_of, key_of_request, parse_address
from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from ops.commands.failure import FAILED, UNAVAILABLE, Failure
from ops.commands.servers import connected, history


async def address_of_request(settings: Settings, client: str, request_id: str) -> Address:
    """Return the address of the newest message with this request_id; raises Failure when it is not found."""
    found, away = await _in_stream(settings, client, request_id)
    if found is not None:
        return found
    try:
        async with history(settings) as messages:
            status = await messages.find_by_request_id(client, request_id)
    except Failure as failure:
        raise Failure("the request_id cannot be looked up:", UNAVAILABLE, (*away, failure.message)) from failure
    if status is not None:
        return address_of(client, status.message_id)
    if away:
        raise Failure(
            "the history does not know this request_id, and the stream could not be asked:", UNAVAILABLE, away
        )
    raise Failure(f"no message of client {client} has this request_id", FAILED)


async def _in_stream(settings: Settings, client: str, request_id: str) -> tuple[Address | None, tuple[str, ...]]:
    """Return what the stream says, and why it could not be asked."""
    key = key_of_request(settings.gateway.id_key.reveal().encode(), client, request_id)
    try:
        async with connected(settings) as connection:
            record = await connection.last(topo.ACCEPT, topo.accept_key_filter(client, key))
    except Failure as failure:
        return None, (failure.message,)
    return (None if record is None else parse_address(record.subject)), ()
