"""Where a message is at this moment: in which queue, behind how many, until when."""

import time

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import FINAL_STATES, Address, state_name
from messaging.stream import topology as topo
from messaging.stream.interface import ApiError, Connection, Record
from ops.commands.output import moment, span

_MOST_COUNTED = 1000


@attrs.frozen
class Place:
    """What a message waits in; `behind` is None where nothing is counted, and may be `_MOST_COUNTED` or more."""

    sentence: str
    queue: str = ""
    behind: int | None = None


async def find(connection: Connection, address: Address, state: int) -> Place:
    """Look a message up in the queues; raises StreamDown."""
    letter = await connection.last(topo.DLQ, topo.dlq_subject("*", "*", address))
    buried = f"; a dead letter lies at {_short(letter)}: `smsctl dlq show {address.message_id}`" if letter else ""
    if state in FINAL_STATES or state == pb.MESSAGE_STATE_SENT:
        end = "a provider has it" if state == pb.MESSAGE_STATE_SENT else "nothing is left to be done"
        return Place(f"{end} ({state_name(state)}){buried}")
    entry = await connection.last(topo.SEND, topo.send_subject("*", "*", address))
    if entry is not None:
        return await _waiting(connection, entry)
    schedule = await connection.last(topo.LATER_STREAM, topo.later_subject(address))
    if schedule is not None:
        due = _due(schedule)
        left = f", in {span(due - time.time())}" if due > time.time() else ""
        return Place(f"waits for its time: due {moment(due)}{left}", "later")
    if state == pb.MESSAGE_STATE_SCHEDULED:
        return Place("is about to be put into the schedule", "later")
    return Place(f"is in no queue{buried}: it is {state_name(state)}, and its next event is under way or overdue")


def _short(record: Record) -> str:
    return ".".join(record.subject.split(".")[:4])


def _due(record: Record) -> float:
    entry = codec.decode(wire.QueueEntry, record.subject, record.data)
    return codec.unix(entry.last.due_time) or codec.unix(entry.command.schedule_time)


async def _waiting(connection: Connection, entry: Record) -> Place:
    provider, lane = entry.subject.split(".")[2:4]
    queue = f"{provider}.{lane}"
    try:
        info = await connection.api(f"CONSUMER.INFO.{topo.SEND}.{topo.dispatch_consumer(provider, lane)}")
    except ApiError:
        return Place(f"waits in lane {queue}, which no consumer serves: is {provider} in the providers file?", queue)
    drawn, waiting = int(info["delivered"]["stream_seq"]), int(info.get("num_pending", 0))
    if entry.sequence <= drawn:
        return Place(f"is in the hands of a pod of {provider} (lane {queue})", queue, 0)
    behind = await _count(connection, f"sms.send.{provider}.{lane}.>", drawn + 1, entry.sequence)
    held = int(info.get("num_ack_pending", 0))
    many = f"more than {behind - 1:,}" if behind >= _MOST_COUNTED else f"{behind:,}"
    return Place(f"waits in lane {queue} behind {many} ({waiting:,} wait there, pods hold {held:,})", queue, behind)


async def _count(connection: Connection, subject: str, first: int, before: int) -> int:
    """Count messages of a lane between two sequences, up to a bound."""
    count = 0
    while count < _MOST_COUNTED:
        record = await connection.next_after(topo.SEND, first, subject)
        if record is None or record.sequence >= before:
            return count
        first, count = record.sequence + 1, count + 1
    return count
