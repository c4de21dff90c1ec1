"""What waits for a provider that no file names is shown by `smsctl lanes`, and sent by another provider."""

import asyncio
import os
import time

from messaging import codec
from messaging.model import KEY_BYTES, key_from_bytes, new_address
from messaging.runtime.config import read_settings
from messaging.stream import setup
from messaging.stream.connection import open_connection
from messaging.stream.publisher import Publisher
from ops.system import System
from tests.integration.control import Smsctl, document, until
from tests.integration.streams import entry_of


async def test_messages_for_an_unknown_provider_are_shown_and_sent_by_another(system: System, smsctl: Smsctl) -> None:
    url = system.environment["SMSGW_NATS_URL"]
    ids = []
    async with open_connection(url, "test") as connection:
        settings = read_settings({key: v for key, v in system.environment.items() if key.startswith("SMSGW_")})
        await setup.ensure_queue(connection, settings, "p9")  # as its own dispatcher once did
        for _ in range(3):
            now = time.time()
            address = new_address("default", int(now * 1000), key_from_bytes(os.urandom(KEY_BYTES)))
            entry = entry_of(address, provider="p9")
            entry.command.recipient, entry.command.segments = "+233201234567", 1
            entry.command.accept_time.CopyFrom(codec.timestamp(now))
            entry.command.deadline.CopyFrom(codec.timestamp(now + 300))
            await Publisher(connection).accept(entry, address, "normal", ttl_s=None, budget_s=5)
            ids.append(address.message_id)
    shown = document(await asyncio.to_thread(smsctl, "lanes", "--json"))
    assert any("p9 is not in the providers file, and 3 wait for it" in one for one in shown["notices"])
    for one in ids:
        await asyncio.to_thread(until, smsctl, one, "SENT")
    assert document(await asyncio.to_thread(smsctl, "lanes", "--json"))["notices"] == []
