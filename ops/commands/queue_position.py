"""Where a message is now: in which queue, behind how many others, until when."""

import time

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.errors import CorruptRecord
from messaging.model import FINAL_STATES, Address, state_name
from messaging.stream import topology as topo
from messaging.stream.interface import ApiError, Connection, Record
from ops.commands.output import moment, span

_COUNT_LIMIT = 1000


@attrs.frozen
class Position:
    """Where a message is. `behind` counts the messages before it, up to `_COUNT_LIMIT`; None if that is not known."""

    sentence: str
    queue: str = ""
    behind: int | None = None


async def find(connection: Connection, address: Address, state: int) -> Position:
    """Find a message in the queues; raises StreamDown."""
    letter = await connection.last(topo.DLQ, topo.dlq_subject("*", "*", address))
    dead_letter = f"; dead letter {_short(letter)}: `smsctl dlq show {address.message_id}`" if letter else ""
    if state in FINAL_STATES or state == pb.MESSAGE_STATE_SENT:
        end = "a provider has it" if state == pb.MESSAGE_STATE_SENT else "nothing is left to do"
        return Position(f"{end} ({state_name(state)}){dead_letter}")
    entry = await connection.last(topo.SEND, topo.send_subject("*", "*", address))
    if entry is not None:
        return await _waiting(connection, entry)
    schedule = await connection.last(topo.LATER_STREAM, topo.later_subject(address))
    if schedule is not None:
        try:
            due = _due(schedule)
        except CorruptRecord:
            return Position("is scheduled, but its schedule cannot be read", "later")
        left = f", in {span(due - time.time())}" if due > time.time() else ""
        return Position(f"is scheduled: due {moment(due)}{left}", "later")
    if state == pb.MESSAGE_STATE_SCHEDULED:
        return Position("is about to be scheduled", "later")
    return Position(f"is in no queue{dead_letter}: it is {state_name(state)}; its next event is in progress or overdue")


def _short(record: Record) -> str:
    return ".".join(record.subject.split(".")[:4])


def _due(record: Record) -> float:
    entry = codec.decode(wire.QueueEntry, record.subject, record.data)
    return codec.unix(entry.last.due_time) or codec.unix(entry.command.schedule_time)


async def _waiting(connection: Connection, entry: Record) -> Position:
    provider, lane = entry.subject.split(".")[2:4]
    queue = f"{provider}.{lane}"
    try:
        info = await connection.api(f"CONSUMER.INFO.{topo.SEND}.{topo.dispatch_consumer(provider, lane)}")
    except ApiError:
        return Position(f"waits in lane {queue}, which no consumer serves: is {provider} in the providers file?", queue)
    delivered, waiting = int(info["delivered"]["stream_seq"]), int(info.get("num_pending", 0))
    if entry.sequence <= delivered:
        return Position(f"is at a pod of {provider} (lane {queue})", queue, 0)
    behind = await _count(connection, f"sms.send.{provider}.{lane}.>", delivered + 1, entry.sequence)
    held = int(info.get("num_ack_pending", 0))
    many = f"more than {behind - 1:,}" if behind >= _COUNT_LIMIT else f"{behind:,}"
    return Position(f"waits in lane {queue} behind {many} ({waiting:,} wait there, pods hold {held:,})", queue, behind)


async def _count(connection: Connection, subject: str, first: int, before: int) -> int:
    """Count a lane's messages from sequence `first` to before `before`, at most `_COUNT_LIMIT`."""
    count = 0
    while count < _COUNT_LIMIT:
        record = await connection.next_after(topo.SEND, first, subject)
        if record is None or record.sequence >= before:
            return count
        first, count = record.sequence + 1, count + 1
    return count
