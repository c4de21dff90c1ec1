"""What the tests of the stream share."""

import os
import time

from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.model import KEY_BYTES, Address, key_from_bytes, key_of_request, new_address
from messaging.runtime.config import Settings
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher

SETTINGS = Settings()
PROVIDERS = ["p1", "p2"]


def an_address(request_id: str = "") -> Address:
    key = key_of_request(b"k", "default", request_id) if request_id else key_from_bytes(os.urandom(KEY_BYTES))
    return new_address("default", time.time_ns() // 1_000_000, key)


def entry_of(address: Address, body: str = "Hello", provider: str = "p1") -> wire.QueueEntry:
    command = wire.Command(message_id=address.message_id, client="default", body=body, provider=provider)
    return wire.QueueEntry(command=command)


async def accept(connection: Connection, address: Address, lane: str = "normal", body: str = "Hello"):
    publisher = Publisher(connection)
    return await publisher.accept(entry_of(address, body), address, lane, ttl_s=None, budget_s=5)
