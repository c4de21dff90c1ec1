"""When a document is read that others write: on a hint, and regularly all the same."""

import asyncio

from messaging.stream.buckets import Hints


async def test_a_hint_ends_the_rest() -> None:
    hints = Hints()
    resting = asyncio.create_task(hints.rest(3600))
    await asyncio.sleep(0)
    hints.give()
    await asyncio.wait_for(resting, 5)


async def test_what_is_written_while_we_read_is_not_forgotten() -> None:
    hints = Hints()
    hints.give()
    await hints.rest(3600)
    hints.give()
    await asyncio.wait_for(hints.rest(3600), 5)


async def test_a_hint_is_heard_once_however_often_it_is_given() -> None:
    hints = Hints()
    hints.give()
    hints.give()
    await hints.rest(3600)
    resting = asyncio.create_task(hints.rest(3600))
    await asyncio.sleep(0)
    assert not resting.done()
    resting.cancel()


async def test_without_a_hint_the_rest_ends_by_itself() -> None:
    await asyncio.wait_for(Hints().rest(0.001), 5)
