"""A reader of a bucket waits for a notification of a write, or for its next regular read."""

import asyncio
import time

from messaging.stream.buckets import Changes
from tests.unit.virtual_time import in_virtual_time


async def test_a_notification_ends_the_wait() -> None:
    changes = Changes()
    waiting = asyncio.create_task(changes.wait(3600))
    await asyncio.sleep(0)
    changes.notify()
    await asyncio.wait_for(waiting, 5)


async def test_a_write_during_a_read_ends_the_next_wait() -> None:
    changes = Changes()
    changes.notify()
    await changes.wait(3600)
    changes.notify()
    await asyncio.wait_for(changes.wait(3600), 5)


@in_virtual_time
async def test_several_notifications_end_one_wait() -> None:
    changes = Changes()
    changes.notify()
    changes.notify()
    await changes.wait(3600)
    began = time.monotonic()
    await changes.wait(3600)
    assert time.monotonic() == began + 3600


async def test_without_a_notification_the_wait_ends_by_itself() -> None:
    await asyncio.wait_for(Changes().wait(0.001), 5)
