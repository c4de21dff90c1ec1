"""Claims: the shared buckets, and the server's API."""

import asyncio

import attrs
import pytest

from messaging.documents import BreakerState, Mode
from messaging.errors import StreamDown, TooFewServers, TopologyConflict
from messaging.runtime.config import GatewaySettings, ServerSettings
from messaging.runtime.providers_file import Provider
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import FleetView
from messaging.stream.interface import ApiError
from messaging.stream.publisher import Publisher
from ops.dead_letters import DeadLetters
from tests.contract.stream.world import PROVIDERS, SETTINGS, World, claim, enqueue, lane, until
from tests.integration.streams import an_address, entry_of


@claim()
async def a_bucket_is_written_only_at_the_revision_that_was_read(world: World) -> None:
    mine, other = Bucket(world.one, topo.LIMITS_BUCKET), Bucket(world.other, topo.LIMITS_BUCKET)
    assert await mine.get("t.a") == (0, None)
    assert await mine.compare_and_set("t.a", {"n": 1}, 0) == 1
    assert await other.compare_and_set("t.a", {"n": 2}, 0) is None
    assert await other.get("t.a") == (1, {"n": 1})
    assert await other.compare_and_set("t.a", {"n": 2}, 1) == 2
    assert await mine.put("t.b", {"n": 3}) == 3
    assert await mine.all("t.*") == {"t.a": (2, {"n": 2}), "t.b": (3, {"n": 3})}
    assert await mine.all("u.*") == {}


@claim()
async def a_deleted_key_is_none_and_its_marker_has_a_revision(world: World) -> None:
    bucket = Bucket(world.one, topo.LIMITS_BUCKET)
    await bucket.put("t.a", {"n": 1})
    await bucket.delete("t.a")
    assert await bucket.get("t.a") == (2, None)
    assert await bucket.all("t.*") == {}
    assert await bucket.compare_and_set("t.a", {"n": 2}, 0) is None
    assert await bucket.compare_and_set("t.a", {"n": 2}, 2) == 3


@claim()
async def a_key_with_a_ttl_expires_and_leaves_no_revision(world: World) -> None:
    bucket = Bucket(world.one, topo.LIMITS_BUCKET)
    await bucket.put("t.a", {"n": 1}, ttl_s=1)
    await bucket.compare_and_set("t.b", {"n": 1}, 0, ttl_s=60)

    async def gone() -> bool:
        return (await bucket.get("t.a"))[1] is None

    assert not await gone()
    await until(gone)
    assert await bucket.get("t.a") == (0, None)
    assert await bucket.all("t.*") == {"t.b": (2, {"n": 1})}
    assert await bucket.compare_and_set("t.a", {"n": 2}, 0) == 3


@claim()
async def writing_again_without_a_ttl_keeps_the_key(world: World) -> None:
    bucket = Bucket(world.one, topo.LIMITS_BUCKET)
    await bucket.put("t.a", {"n": 1}, ttl_s=1)
    await bucket.put("t.a", {"n": 2})
    await asyncio.sleep(1.5)
    assert await bucket.get("t.a") == (2, {"n": 2})


@claim()
async def a_subscriber_is_notified_of_every_attempt_to_write_a_matching_key_until_it_ends(world: World) -> None:
    mine, other = Bucket(world.one, topo.LIMITS_BUCKET), Bucket(world.other, topo.LIMITS_BUCKET)
    notified: list[tuple[str, object]] = []
    async with mine.on_write("t.*", lambda key, document: notified.append((key, document))):
        await asyncio.sleep(0.1)
        await other.put("t.a", 1)
        assert await other.compare_and_set("t.a", 2, 0) is None
        await other.put("u.a", 3)
        await other.delete("t.a")

        async def complete() -> bool:
            return len(notified) == 3

        await until(complete)
    await other.put("t.a", 4)
    await asyncio.sleep(0.1)
    assert notified == [("t.a", 1), ("t.a", 2), ("t.a", None)]


@claim()
async def a_document_is_written_only_while_another_key_is_at_its_revision(world: World) -> None:
    mine, other = Bucket(world.one, topo.LIMITS_BUCKET), Bucket(world.other, topo.LIMITS_BUCKET)
    revision = await other.put("alloc", {"version": 1})
    assert await mine.put_while("lease.a", {"n": 1}, "alloc", revision, ttl_s=60)
    assert await mine.put_while("lease.a", {"n": 2}, "alloc", revision)
    changed = await other.put("alloc", {"version": 2})
    assert not await mine.put_while("lease.a", {"n": 3}, "alloc", revision)
    assert (await mine.get("lease.a"))[1] == {"n": 2}
    assert await mine.put_while("lease.a", {"n": 4}, "alloc", changed)
    await other.delete("alloc")
    assert not await mine.put_while("lease.a", {"n": 5}, "alloc", changed)


@claim()
async def the_fleet_view_reads_breakers_backlog_and_schedules(world: World) -> None:
    providers = [Provider(name, "simulated", "http://127.0.0.1:1") for name in PROVIDERS]
    view = FleetView(world.one, providers, 3.0)
    await Bucket(world.other, topo.BREAKERS_BUCKET).put("breaker.p2", {"state": "open"})
    for _ in range(3):
        await enqueue(world.one)
    [held] = await (await lane(world.one)).fetch(1, 2)
    address = an_address()
    await Publisher(world.one).schedule(entry_of(address), address, "p1", "otp", 4e9)
    await view.refresh_breakers()
    await view.refresh_backlog()
    assert view.breakers == {"p2": BreakerState(Mode.OPEN)}
    assert view.backlog == {"p1": 3, "p2": 0}
    assert await view.scheduled() == 1
    await Publisher(world.one).unschedule(address)
    assert await view.scheduled() == 0
    fired = topo.due_subject("p1", "otp", address)
    await world.one.publish(fired, b"it fired, and is kept")
    assert await view.scheduled() == 0
    assert (view.storage_fill, view.storage_limited) == (0.0, False)
    await held.ack()
    await view.refresh_backlog()
    assert view.backlog == {"p1": 2, "p2": 0}


@claim()
async def dead_letters_are_counted_by_provider_and_reason(world: World) -> None:
    letters = DeadLetters(world.one)
    assert await letters.counts() == {}
    for provider, reason in (("p1", "failed"), ("p1", "failed"), ("p2", "expired")):
        await world.one.publish(topo.dlq_subject(provider, reason, an_address()), b"x")
    assert await letters.counts() == {("p1", "FAILED"): 2, ("p2", "EXPIRED"): 1}


@claim()
async def subjects_are_listed_in_pages(world: World) -> None:
    for name in "abc":
        await world.one.publish(f"sms.dlq.p1.failed.{name}.k.t", b"x")
    request = {"subjects_filter": "sms.dlq.>", "offset": 2}
    info = await world.one.api(f"STREAM.INFO.{topo.DLQ}", request)
    assert info["state"]["subjects"] == {"sms.dlq.p1.failed.c.k.t": 1}
    assert (info["total"], info["offset"]) == (3, 2)
    beyond = await world.one.api(f"STREAM.INFO.{topo.DLQ}", {**request, "offset": 3})
    assert "subjects" not in beyond["state"]
    assert beyond["total"] == 3


@claim()
async def a_stream_reports_its_contents(world: World) -> None:
    async def state() -> dict[str, int]:
        info = (await world.one.api(f"STREAM.INFO.{topo.EVENT}"))["state"]
        return {name: info[name] for name in info if not name.endswith("_ts")}

    assert await state() == {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 1}
    await world.one.publish("sms.event.a.b.c", b"12345", {topo.H_EXPECTED: "0", "traceparent": "00-x"})
    first = await state()
    await world.one.publish("sms.event.a.b.d", b"1")
    assert first == {**first, "messages": 1, "first_seq": 1, "last_seq": 1, "num_subjects": 1, "bytes": 125}
    await world.one.delete(topo.EVENT, 1)
    assert await state() == {
        "messages": 1,
        "bytes": 46,
        "first_seq": 2,
        "last_seq": 2,
        "num_subjects": 1,
        "consumer_count": 1,
    }
    await world.one.delete(topo.EVENT, 2)
    assert (await state())["first_seq"] == 3


@claim()
async def consumers_are_listed_with_their_configuration(world: World) -> None:
    page = await world.one.api(f"CONSUMER.LIST.{topo.SEND}", {"offset": 0})
    names = [topo.dispatch_consumer(provider, name) for provider in PROVIDERS for name in ("bulk", "normal", "otp")]
    assert sorted(one["name"] for one in page["consumers"]) == names
    assert page["total"] == 6
    listed = await world.one.api(f"CONSUMER.NAMES.{topo.SEND}", {"offset": 0})
    assert sorted(listed["consumers"]) == names
    assert (await world.one.api(f"CONSUMER.LIST.{topo.SEND}", {"offset": 6})).get("consumers") in ([], None)


@claim()
async def a_request_for_what_does_not_exist_is_refused_with_its_code(world: World) -> None:
    for verb, code in (
        ("STREAM.INFO.NONE", 10059),
        ("CONSUMER.INFO.NONE.x", 10059),
        (f"CONSUMER.INFO.{topo.SEND}.x", 10014),
        (f"STREAM.LEADER.STEPDOWN.{topo.SEND}", 10010),
        (f"STREAM.MSG.DELETE.{topo.SEND}", 10057),
    ):
        with pytest.raises(ApiError) as caught:
            await world.one.api(verb, {"seq": 1} if "DELETE" in verb else None)
        assert caught.value.code == code
    with pytest.raises(StreamDown):
        await world.one.last("NONE", "x")


@claim(made=False)
async def the_set_up_makes_everything_and_finds_it_as_wanted(world: World) -> None:
    with pytest.raises(StreamDown):
        await world.one.publish(topo.event_subject(an_address()), b"x")
    assert {one.state for one in await setup.inspect(world.one, SETTINGS, PROVIDERS)} == {"missing"}
    made = await setup.ensure(world.one, SETTINGS, PROVIDERS)
    assert {one.state for one in made} == {"created"}
    assert {one.state for one in await setup.ensure(world.other, SETTINGS, PROVIDERS)} == {"as wanted"}
    assert {one.state for one in await setup.inspect(world.one, SETTINGS, PROVIDERS)} == {"as wanted"}
    await enqueue(world.one)
    assert len(await (await lane(world.one)).fetch(1, 2)) == 1


@claim()
async def the_set_up_makes_changes_that_lose_nothing_and_refuses_others(world: World) -> None:
    longer = attrs.evolve(SETTINGS, gateway=GatewaySettings(window_s=2 * 86400))
    changed = [
        one.name for one in await setup.ensure(world.one, longer, [*PROVIDERS, "p3"]) if one.state != "as wanted"
    ]
    assert changed == [topo.ACCEPT, *(f"{topo.SEND}/dispatch-p3-{name}" for name in ("otp", "normal", "bulk"))]
    with pytest.raises(TopologyConflict):
        await setup.ensure(world.one, SETTINGS, PROVIDERS)
    unwanted = [one.name for one in await setup.inspect(world.one, longer, PROVIDERS) if one.state == "not wanted"]
    assert unwanted == [f"{topo.SEND}/dispatch-p3-{name}" for name in ("bulk", "normal", "otp")]


@claim(made=False)
async def replicas_that_a_single_server_cannot_hold_are_refused(world: World) -> None:
    with pytest.raises(TooFewServers):
        await setup.ensure(world.one, attrs.evolve(SETTINGS, servers=ServerSettings(replicas=3)), PROVIDERS)
