"""One message from a caller to a provider, and what follows from each answer."""

import signal
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from rig import BULK, NORMAL, OTP, Rig, eventually, reasons
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import address_of
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from messaging.stream.interface import Record


async def test_message_is_sent_once_and_its_events_are_listed(rig: Rig) -> None:
    answer = await rig.send(body="Your code is 123456", client_reference="order-7", labels={"team": "shop"})
    status = await rig.until(answer.message_id, "SENT")
    assert status.provider == answer.provider
    assert [(one.number, one.provider) for one in status.attempts] == [(1, answer.provider)]
    assert status.attempts[0].outcome == pb.ATTEMPT_OUTCOME_ACCEPTED
    assert status.provider_message_id.startswith(f"{answer.provider}-")
    assert (status.client_reference, dict(status.labels)) == ("order-7", {"team": "shop"})
    assert len(await rig.received([answer.message_id])) == 1


async def test_message_is_found_at_once_by_message_id_and_request_id(rig: Rig) -> None:
    answer = await rig.send(request_id="found-at-once")
    found = await rig.stub().GetStatus(api.GetStatusRequest(request_id="found-at-once"))
    assert found.status.message_id == answer.message_id
    again = await rig.stub(1).GetStatus(api.GetStatusRequest(message_id=answer.message_id))
    assert again.status.message_id == answer.message_id


async def test_message_fails_over_after_a_503(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0503": "unavailable"})
    answer = await rig.send(recipient=rig.number("0503"), providers=["p1", "p2"])
    status = await rig.until(answer.message_id, "SENT")
    outcomes = [(one.provider, one.outcome) for one in status.attempts]
    assert outcomes == [("p1", pb.ATTEMPT_OUTCOME_TRANSIENT), ("p2", pb.ATTEMPT_OUTCOME_ACCEPTED)]


async def test_message_fails_over_from_a_provider_without_credit(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0402": "payment"})
    answer = await rig.send(recipient=rig.number("0402"), providers=["p1", "p3"])
    status = await rig.until(answer.message_id, "SENT")
    assert status.attempts[0].outcome == pb.ATTEMPT_OUTCOME_PROVIDER_FAULT
    assert status.provider == "p3"


async def test_refused_recipient_fails_without_another_provider(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0400": "bad_request"})
    answer = await rig.send(recipient=rig.number("0400"), providers=["p1", "p2"])
    status = await rig.until(answer.message_id, "FAILED")
    assert len(status.attempts) == 1
    assert (status.final, status.error.reason) == (True, "REFUSED")


async def test_retries_end_in_a_dead_letter_with_the_reason(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0777": "unavailable"})
    answer = await rig.send(recipient=rig.number("0777"), providers=["p1"])
    status = await rig.until(answer.message_id, "FAILED")
    assert [one.outcome for one in status.attempts] == [pb.ATTEMPT_OUTCOME_TRANSIENT] * 3
    assert status.error.reason == "EXHAUSTED"
    gaps = [
        codec.unix(after.start_time) - codec.unix(before.end_time)
        for before, after in zip(status.attempts, status.attempts[1:], strict=False)
    ]
    assert all(0.5 < gap < 2.5 for gap in gaps)
    letter = await dead_letter(rig, answer.message_id)
    assert (letter.reason, len(letter.last.attempts)) == ("EXHAUSTED", 3)


async def dead_letter(rig: Rig, message_id: str) -> wire.DeadLetter:
    """Wait for a message's dead letter, which is written after the event that ends the message."""
    pattern = topo.dlq_subject("*", "*", address_of("default", message_id))
    found: list[Record] = []

    async def written() -> bool:
        record = await connection.last(topo.DLQ, pattern)
        found.extend([record] if record else [])
        return bool(found)

    async with open_connection(rig.system.environment["SMSGW_NATS_URL"], "test") as connection:
        await eventually(written)
    return codec.decode(wire.DeadLetter, found[0].subject, found[0].data)


async def test_message_with_an_unclear_outcome_is_not_resent_and_becomes_unknown_at_its_deadline(rig: Rig) -> None:
    await rig.behave("p1", "p2", by_suffix={"0001": "take_and_hang"})
    answer = await rig.send(recipient=rig.number("0001"), providers=["p1", "p2"], ttl=Duration(seconds=6))
    held = await rig.until_attempted(answer.message_id)
    assert held.attempts[0].outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS
    status = await rig.until(answer.message_id, "UNKNOWN")
    assert time.time() >= codec.unix(answer.deadline) - 0.1
    assert len(await rig.received([answer.message_id])) == 1
    assert status.final
    letter = await dead_letter(rig, answer.message_id)
    assert letter.reason == "UNKNOWN"


async def test_otp_with_an_unclear_outcome_is_resent_at_another_provider(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0002": "take_and_reset"})
    answer = await rig.send(recipient=rig.number("0002"), providers=["p1", "p2"], priority=OTP)
    status = await rig.until(answer.message_id, "SENT")
    assert [one.outcome for one in status.attempts] == [pb.ATTEMPT_OUTCOME_AMBIGUOUS, pb.ATTEMPT_OUTCOME_ACCEPTED]


@pytest.mark.parametrize(("suffix", "fault", "end"), [("0003", "take_and_hang", "p4"), ("0004", "hang", "p1")])
async def test_look_up_settles_an_unclear_outcome(rig: Rig, suffix: str, fault: str, end: str) -> None:
    await rig.behave("p4", by_suffix={suffix: fault})
    answer = await rig.send(recipient=rig.number(suffix), providers=["p4", "p1"])
    status = await rig.until(answer.message_id, "SENT")
    assert status.provider == end
    taken = [one for one in await rig.received([answer.message_id]) if one["taken"]]
    assert [one["provider"] for one in taken] == [end]


async def test_messages_with_inconclusive_answers_are_held(rig: Rig) -> None:
    faults = {"0005": "malformed", "0006": "take_and_500", "0007": "trickle"}
    await rig.behave("p2", by_suffix=faults, trickle_s=30)
    sent = {
        fault: await rig.send(recipient=rig.number(suffix), providers=["p2", "p3"], ttl=Duration(seconds=6))
        for suffix, fault in faults.items()
    }
    for fault, answer in sent.items():
        status = await rig.until(answer.message_id, "UNKNOWN")
        assert [one.provider for one in status.attempts] == ["p2"], fault


async def test_retry_after_pauses_the_lane_and_keeps_the_message_there(rig: Rig) -> None:
    await rig.behave("p3", by_suffix={"0429": "throttle"}, retry_after_s=2)
    first = await rig.send(recipient=rig.number("0429"), providers=["p3"])
    await rig.until_attempted(first.message_id)
    others = [(await rig.send(providers=["p3"])).message_id for _ in range(5)]
    await rig.behave("p3")
    for one in [first.message_id, *others]:
        await rig.until(one, "SENT")
    seen = await rig.received([first.message_id, *others])
    assert seen[0]["status"] == 429
    assert all(one["at_ns"] - seen[0]["at_ns"] >= 2_000_000_000 for one in seen[1:])
    assert {one["provider"] for one in seen} == {"p3"}


async def test_message_past_its_deadline_is_not_sent(rig: Rig) -> None:
    await rig.behave("p1", by_suffix={"0888": "unavailable"})
    answer = await rig.send(recipient=rig.number("0888"), providers=["p1"], ttl=Duration(seconds=5))
    status = await rig.until(answer.message_id, lambda s: s.final)
    assert status.error.reason in {"EXHAUSTED", "EXPIRED"}
    assert all(codec.unix(one.start_time) < codec.unix(answer.deadline) for one in status.attempts)


async def test_scheduled_message_is_sent_at_its_time(rig: Rig) -> None:
    due = time.time() + 3
    answer = await rig.send(schedule_time=codec.timestamp(due), priority=BULK)
    assert answer.state == pb.MESSAGE_STATE_SCHEDULED
    assert (await rig.status(answer.message_id)).state == pb.MESSAGE_STATE_SCHEDULED
    await rig.until(answer.message_id, "SENT")
    [seen] = await rig.received([answer.message_id])
    assert due <= seen["at_ns"] / 1e9 < due + 2


async def test_canceled_message_is_never_sent(rig: Rig) -> None:
    answer = await rig.send(schedule_time=codec.timestamp(time.time() + 2))
    canceled = await rig.stub().CancelMessage(api.CancelMessageRequest(message_id=answer.message_id))
    assert canceled.status.state == pb.MESSAGE_STATE_CANCELED
    again = await rig.stub(1).CancelMessage(api.CancelMessageRequest(message_id=answer.message_id))
    assert again.status.state == pb.MESSAGE_STATE_CANCELED
    later = await rig.send(schedule_time=codec.timestamp(time.time() + 3))
    await rig.until(later.message_id, "SENT")
    assert await rig.received([answer.message_id]) == []


async def test_sent_message_cannot_be_canceled(rig: Rig) -> None:
    answer = await rig.send()
    await rig.until(answer.message_id, "SENT")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.stub().CancelMessage(api.CancelMessageRequest(message_id=answer.message_id))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reasons(caught.value)["ErrorInfo"].reason == "NOT_CANCELABLE"


async def test_segments_are_charged_where_the_provider_charges_them(rig: Rig) -> None:
    long = "a" * 153 * 9
    load = rig.load(30, body=long, providers=["p5"], priority=NORMAL)
    ids = {one.accepted.message_id for one in await rig.batch(load)}
    seen = await rig.until_received(30, ids, 60)
    from ops.simulator.call_log import highest_window

    assert all(one["segments"] == 9 for one in seen)
    window = highest_window([one["at_ns"] for one in seen], [one["segments"] for one in seen])
    assert 36 <= window <= 50


async def test_watch_ends_when_the_message_is_settled(rig: Rig) -> None:
    answer = await rig.send(schedule_time=codec.timestamp(time.time() + 3))
    call = rig.stub().WatchStatus(api.WatchStatusRequest(message_id=answer.message_id), timeout=40)
    states = [pb.MessageState.Name(one.status.state) async for one in call]
    assert states[0] == "MESSAGE_STATE_SCHEDULED"
    assert states[-1] == "MESSAGE_STATE_SENT"


async def test_list_is_paged_newest_first(rig: Rig) -> None:
    sent = [(await rig.send(client_reference="paged")).message_id for _ in range(7)]
    for one in sent:
        await rig.until(one, "SENT")

    async def listed() -> list[str]:
        found, token = [], ""
        while True:
            page = await rig.stub().ListMessages(
                api.ListMessagesRequest(client_reference="paged", page_size=3, page_token=token)
            )
            found += [one.message_id for one in page.messages]
            if not (token := page.next_page_token):
                return found

    async def all_listed() -> bool:
        return await listed() == sent[::-1]

    await eventually(all_listed)


async def test_message_of_paused_pods_ends_at_its_deadline(rig: Rig) -> None:
    rig.system.signal("dispatcher-p3-1", signal.SIGSTOP)
    try:
        answer = await rig.send(providers=["p3"], ttl=Duration(seconds=5))
        status = await rig.until(answer.message_id, "EXPIRED")
        assert codec.unix(answer.deadline) <= codec.unix(status.update_time) < codec.unix(answer.deadline) + 6
        letter = await dead_letter(rig, answer.message_id)
        assert letter.reason == "EXPIRED"
    finally:
        rig.system.signal("dispatcher-p3-1", signal.SIGCONT)
    later = await rig.send(providers=["p3"])
    await rig.until(later.message_id, "SENT")
    assert await rig.received([answer.message_id]) == []
