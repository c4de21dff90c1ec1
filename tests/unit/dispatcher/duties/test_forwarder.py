"""What waits for a provider that was taken out of the file is routed anew; what nobody else may send waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from sms.gateway.v1 import message_pb2 as pb

from dispatcher import app
from dispatcher.duties.forwarder import REASON, Forwarder
from dispatcher.work.dispatch_context import DispatchContext
from messaging.documents import Grant, Table
from messaging.routing import ProviderFacts
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import FleetView
from tests.unit.fake_provider import Reply
from tests.unit.processes import Process
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time

PATIENCE_S = 20.0


@contextlib.asynccontextmanager
async def forwarding(fleet: SmallFleet, *names: str) -> AsyncIterator[Process]:
    """Run the forwarder of a dispatcher whose file holds `names`."""
    fleet.facts = {name: ProviderFacts(name) for name in names}
    providers = [Provider(name, "simulated", "http://x") for name in names]
    process = Process(fleet.stream)
    fleet.processes.append(process)
    view = FleetView(process.connection, providers, 30.0)
    context = DispatchContext(
        provider=providers[0],
        pod="forwarder",
        policy=app.policy_of(fleet.settings.fleet),
        provider_facts=view.facts,
        can_look_up=True,
    )
    forwarder = Forwarder(
        connection=process.connection,
        view=view,
        limits=LimitsBoard(Bucket(process.connection, topo.LIMITS_BUCKET)),
        tracer=Tracer(None, ChosenIds(), 0.0),
        context=context,
        settings=fleet.settings,
    )
    process.start(view.run())
    process.start(forwarder.run())
    yield process
    await process.kill()


@in_virtual_time
async def test_messages_of_a_removed_provider_are_sent_by_another_one() -> None:
    fleet = SmallFleet()
    addresses = [await fleet.accept(f"m{n}", provider="p2", priority=pb.PRIORITY_BULK) for n in range(100)]
    await fleet.pod("p1")
    async with forwarding(fleet, "p1"):
        await fleet.until_idle()
    for address in addresses:
        assert fleet.story(address) == [f"QUEUED {REASON}", "SENDING", "SENT"]
    assert sorted(fleet.providers["p1"].took.values()) == [1] * 100
    await fleet.close()


@in_virtual_time
async def test_scheduled_message_of_a_removed_provider_is_sent_when_it_is_due() -> None:
    fleet = SmallFleet()
    fleet.duties()
    address = await fleet.accept("a", provider="p2", due_in_s=120.0, ttl_s=300.0)
    await fleet.pod("p1")
    async with forwarding(fleet, "p1"):
        await asyncio.sleep(110)
        assert not fleet.events(address)
        await asyncio.sleep(10 + PATIENCE_S)
        assert fleet.story(address)[-1] == "SENT"
    await fleet.close()


@in_virtual_time
async def test_message_that_no_other_provider_may_send_waits_for_its_own_until_its_deadline() -> None:
    fleet = SmallFleet()
    waits = await fleet.accept("a", provider="p2", providers=["p2"], ttl_s=3600.0)
    ends = await fleet.accept("b", provider="p2", providers=["p2"], ttl_s=40.0)
    async with forwarding(fleet, "p1"):
        await asyncio.sleep(60)
        assert set(fleet.story(waits)) == {f"QUEUED {REASON}"}
        assert fleet.story(ends)[-1] == "EXPIRED EXPIRED"
        assert "p2, which is no longer used" in fleet.last(ends).detail
        assert len(fleet.events(waits)) < 12
    # It comes back into the file.
    await fleet.pod("p2")
    await asyncio.sleep(30)
    assert fleet.story(waits)[-1] == "SENT"
    await fleet.close()


@in_virtual_time
async def test_unclear_message_of_a_removed_provider_is_not_sent_by_another_one() -> None:
    fleet = SmallFleet({"p2": {"a": [Reply.HANGS]}})
    pod = await fleet.pod("p2")
    address = await fleet.accept("a", provider="p2", priority=pb.PRIORITY_NORMAL, ttl_s=60.0)
    await asyncio.sleep(5)
    await pod.process.kill()
    await fleet.pod("p1")
    async with forwarding(fleet, "p1"):
        await asyncio.sleep(200)
    assert fleet.story(address)[-1] == "UNKNOWN UNKNOWN"
    assert fleet.took(address) == 1
    await fleet.close()


@in_virtual_time
async def test_attempt_that_the_last_pod_began_is_waited_for() -> None:
    fleet = SmallFleet()
    pod = await fleet.pod("p2", lambda step: None)
    address = await fleet.accept("slow", provider="p2", priority=pb.PRIORITY_NORMAL, ttl_s=900.0)
    fleet.providers["p2"].script = {"slow": [Reply.HANGS]}
    await asyncio.sleep(0.5)
    await pod.process.kill()
    await fleet.pod("p1")
    async with forwarding(fleet, "p1"):
        await asyncio.sleep(400)
    assert fleet.took(address) == 1
    assert not fleet.providers["p1"].calls
    await fleet.close()


@in_virtual_time
async def test_queue_of_a_provider_with_a_pod_that_has_a_share_is_left_alone() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", provider="p2", ttl_s=600.0)
    async with forwarding(fleet, "p1") as process:
        board = LimitsBoard(Bucket(process.connection, topo.LIMITS_BUCKET))
        await board.set_table(Table(1, {"p2-old": Grant("p2", 2)}), 0)
        await asyncio.sleep(60)
        assert not fleet.events(address)
        await board.set_table(Table(2, {}), 1)
        await asyncio.sleep(PATIENCE_S)
        assert fleet.story(address) == [f"QUEUED {REASON}"]
    await fleet.close()


@in_virtual_time
async def test_messages_for_a_name_without_any_consumer_are_found() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", provider="p7")
    await fleet.pod("p1")
    async with forwarding(fleet, "p1"):
        await asyncio.sleep(60)
    assert fleet.story(address)[-1] == "SENT"
    await fleet.close()


@in_virtual_time
async def test_set_up_of_a_removed_provider_needs_no_other_stream() -> None:
    fleet = SmallFleet()
    await setup.ensure_queue(fleet.caller.connection, fleet.settings, "p9")
    assert {name for name in fleet.stream.queues[topo.SEND] if "-p9-" in name} == {
        f"dispatch-p9-{lane}" for lane in ("otp", "normal", "bulk")
    }


@in_virtual_time
async def test_scheduled_message_that_is_due_at_a_draining_provider_goes_to_another_one() -> None:
    fleet = SmallFleet()
    fleet.duties()
    scheduled = await fleet.accept("a", provider="p2", due_in_s=20.0, ttl_s=300.0)
    only = await fleet.accept("b", provider="p2", providers=["p2"], due_in_s=20.0, ttl_s=300.0)
    waiting = await fleet.accept("c", provider="p2")
    fleet.facts["p2"] = ProviderFacts("p2", draining=True)
    await fleet.pod("p1")
    await fleet.pod("p2")
    await fleet.until_idle()
    assert fleet.story(scheduled) == ["QUEUED ROUTED_WHEN_DUE", "SENDING", "SENT"]
    assert fleet.last(scheduled).provider == "p1"
    for address in (only, waiting):
        assert fleet.last(address).provider == "p2"
    await fleet.close()


@pytest.mark.parametrize(
    "unwell", [ProviderFacts("p2", backlog=900, room=900), ProviderFacts("p2", breaker_open=True)], ids=["full", "open"]
)
@in_virtual_time
async def test_scheduled_message_that_is_due_at_an_unhealthy_provider_goes_to_a_healthy_one(
    unwell: ProviderFacts,
) -> None:
    fleet = SmallFleet()
    fleet.duties()
    scheduled = await fleet.accept("a", provider="p2", due_in_s=20.0, ttl_s=300.0)
    only = await fleet.accept("b", provider="p2", providers=["p2"], due_in_s=20.0, ttl_s=300.0)
    waiting = await fleet.accept("c", provider="p2")
    fleet.facts["p2"] = unwell
    await fleet.pod("p1")
    await fleet.pod("p2")
    await fleet.until_idle()
    assert fleet.story(scheduled) == ["QUEUED ROUTED_WHEN_DUE", "SENDING", "SENT"]
    first = next(one for one in fleet.events(scheduled) if one.reason)
    assert first.detail == "p2 has an open breaker or too many waiting: by weight among 1 healthy"
    assert fleet.last(scheduled).provider == "p1"
    for address in (only, waiting):
        assert fleet.story(address) == ["SENDING", "SENT"], "it was not routed anew"
        assert fleet.last(address).provider == "p2"
    await fleet.close()


@in_virtual_time
async def test_scheduled_message_stays_where_no_provider_is_healthier() -> None:
    fleet = SmallFleet()
    fleet.duties()
    scheduled = await fleet.accept("a", provider="p2", due_in_s=20.0, ttl_s=300.0)
    for name in ("p1", "p2"):
        fleet.facts[name] = ProviderFacts(name, backlog=900, room=900)
        await fleet.pod(name)
    await fleet.until_idle()
    assert fleet.story(scheduled) == ["SENDING", "SENT"]
    await fleet.close()
