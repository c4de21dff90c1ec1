"""Claims: a message is accepted once under its key, completely or not at all, and reaches its lane."""

import asyncio

import attrs

from messaging.errors import StreamFull
from messaging.model import LATER, Address, parse_address
from messaging.runtime.config import ServerSettings
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Refused, Stored
from messaging.stream.publisher import Accepted, AlreadyAccepted, Publisher
from tests.contract.stream.world import SETTINGS, World, claim, lane, last, until
from tests.integration.streams import an_address, entry_of


def later_by(address: Address, milliseconds: int) -> Address:
    return attrs.evolve(address, time=f"{int(address.time, 16) + milliseconds:012x}")


async def accept(
    connection: Connection, address: Address, where: str = "otp", body: str = "Hello", ttl_s: float | None = None
) -> Accepted | AlreadyAccepted:
    entry = entry_of(address, body)
    return await Publisher(connection).accept(entry, address, where, ttl_s=ttl_s, budget_s=10)


@claim()
async def one_key_is_accepted_once_at_any_time_and_for_any_lane(world: World) -> None:
    first = an_address("once")
    assert isinstance(await accept(world.one, first), Accepted)
    second = await accept(world.other, later_by(first, 7), "bulk", "other contents")
    assert isinstance(second, AlreadyAccepted)
    assert parse_address(second.record.subject) == first


@claim()
async def different_keys_are_accepted_independently(world: World) -> None:
    answers = [await accept(world.one, an_address(name)) for name in ("a", "b")]
    assert answers == [Accepted(1), Accepted(2)]


@claim()
async def a_repeat_with_the_same_contents_counts_as_the_same_message(world: World) -> None:
    address = an_address("repeat")
    first = await accept(world.one, address)
    assert await accept(world.other, address) == first


@claim()
async def of_many_at_the_same_moment_one_is_accepted(world: World) -> None:
    for n in range(5):
        base = an_address(f"race-{n}")
        connections = [world.one, world.other] * 2
        answers = await asyncio.gather(*(accept(c, later_by(base, i)) for i, c in enumerate(connections)))
        kinds = sorted(type(answer).__name__ for answer in answers)
        assert kinds == ["Accepted", "AlreadyAccepted", "AlreadyAccepted", "AlreadyAccepted"]


@claim()
async def an_acceptance_whose_answer_was_lost_is_recognised_as_our_own(world: World) -> None:
    address = an_address("lost")
    async with world.answers_lost():
        asking = asyncio.create_task(accept(world.one, address))
        await asyncio.sleep(0.5)
        assert not asking.done()
    answer = await asking
    record = await last(world.one, topo.ACCEPT, topo.accept_filter(address))
    assert answer == Accepted(record.sequence) == Accepted(1)


@claim()
async def a_refused_condition_names_the_current_sequence(world: World) -> None:
    address = an_address("condition")
    await accept(world.one, an_address("before"))
    await accept(world.one, address)
    subject = topo.accept_subject("p2", "bulk", address)
    headers = {
        topo.H_EXPECTED: "0",
        topo.H_EXPECTED_SUBJECT: topo.accept_key_filter(address.client, address.key),
    }
    assert await world.one.publish(subject, b"x", headers) == Refused(2)
    assert await world.one.publish(subject, b"x", {**headers, topo.H_EXPECTED: "1"}) == Refused(2)
    assert await world.one.publish(subject, b"x", {**headers, topo.H_EXPECTED: "2"}) == Stored(3)


@claim()
async def an_accepted_message_reaches_its_lane_with_its_headers_except_the_conditions(world: World) -> None:
    address = an_address()
    await accept(world.one, address, ttl_s=60)
    [delivery] = await (await lane(world.other)).fetch(5, 5)
    assert (parse_address(delivery.subject), delivery.delivered, delivery.waiting) == (address, 1, 0)
    assert delivery.subject == topo.send_subject("p1", "otp", address)
    accepted = await last(world.one, topo.ACCEPT, "sms.accept.>")
    assert set(accepted.headers) == {topo.H_EXPECTED, topo.H_EXPECTED_SUBJECT, topo.H_TTL}
    assert set(delivery.headers) == {topo.H_TTL, "Nats-Stream-Source"}
    assert delivery.data == accepted.data


@claim()
async def a_message_accepted_for_later_reaches_the_scheduler_and_no_lane(world: World) -> None:
    address = an_address()
    await accept(world.one, address, LATER)
    scheduler = await world.one.consumer(topo.ACCEPT, topo.SCHEDULE_CONSUMER)
    [delivery] = await scheduler.fetch(5, 5)
    assert parse_address(delivery.subject) == address
    await accept(world.one, an_address())
    assert len(await (await lane(world.one)).fetch(5, 5)) == 1
    assert await delivery.ack()
    assert await world.one.last(topo.ACCEPT, topo.accept_filter(address)) is not None, "it is not a work queue"


@claim()
async def a_record_with_a_ttl_expires_and_others_do_not(world: World) -> None:
    expiring, kept = an_address(), an_address()
    await accept(world.one, expiring, ttl_s=1)
    await accept(world.one, kept)

    async def gone() -> bool:
        return await world.one.last(topo.ACCEPT, topo.accept_filter(expiring)) is None

    assert not await gone()
    await until(gone)
    assert await world.one.last(topo.ACCEPT, topo.accept_filter(kept)) is not None
    assert len(await (await lane(world.one)).fetch(5, 5)) == 2, "the copies in the lane stay"


@claim(attrs.evolve(SETTINGS, servers=ServerSettings(accept_max_bytes=20_000)))
async def a_full_stream_refuses_a_message_and_keeps_nothing_of_it(world: World) -> None:
    accepted: list[Address] = []
    full = False
    while not full:
        accepted.append(address := an_address())
        try:
            await accept(world.one, address, body="x" * 1000)
        except StreamFull:
            full = True
    assert len(accepted) == 16, "1,201 bytes and a little more each"
    assert await world.one.last(topo.ACCEPT, topo.accept_filter(accepted.pop())) is None
    for address in accepted:
        assert await world.one.last(topo.ACCEPT, topo.accept_filter(address)) is not None
