"""Builds a message's status from its acceptance and its last event. Pure."""

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import FINAL_STATES


def first_state(command: wire.Command) -> pb.MessageState.ValueType:
    """Return the state of a message that has no event yet: SCHEDULED or ACCEPTED."""
    later = command.HasField("schedule_time") and codec.unix(command.schedule_time) > codec.unix(command.accept_time)
    return pb.MESSAGE_STATE_SCHEDULED if later else pb.MESSAGE_STATE_ACCEPTED


def as_of(status: pb.MessageStatus, now: float) -> pb.MessageStatus:
    """Show a scheduled message whose time has come as QUEUED: it waits for its provider. Changes `status`."""
    if status.state == pb.MESSAGE_STATE_SCHEDULED and codec.unix(status.schedule_time) <= now:
        status.state = pb.MESSAGE_STATE_QUEUED
    return status


def deadline_of(command: wire.Command, event: wire.Event | None) -> float:
    """Return the deadline in force (Unix seconds); `event` is the message's last one, None when there is none."""
    return codec.unix(event.deadline if event is not None and event.HasField("deadline") else command.deadline)


def status_of(command: wire.Command, event: wire.Event | None) -> pb.MessageStatus:
    """Build the status of a message; `event` is its last one, None when there is none."""
    status = pb.MessageStatus(
        message_id=command.message_id,
        request_id=command.request_id,
        client_reference=command.client_reference,
        state=first_state(command),
        provider=command.provider,
        recipient=command.recipient,
        sender=command.sender,
        encoding=command.encoding,
        segments=command.segments,
        priority=command.priority,
        accept_time=command.accept_time,
        deadline=command.deadline,
        update_time=command.accept_time,
        labels=command.labels,
        trace_id=codec.trace_id_of(command.traceparent),
        route_reason=command.route_reason,
    )
    if command.HasField("schedule_time"):
        status.schedule_time.CopyFrom(command.schedule_time)
    return overlay(status, event) if event is not None else status


def overlay(status: pb.MessageStatus, event: wire.Event) -> pb.MessageStatus:
    """Update a status from the message's last event; changes `status` and returns it."""
    status.message_id = event.message_id
    status.state = event.state
    status.final = event.state in FINAL_STATES
    if event.provider:
        status.provider = event.provider
    status.update_time.CopyFrom(event.time)
    if event.HasField("deadline"):
        status.deadline.CopyFrom(event.deadline)
    status.ClearField("next_attempt_time")
    if event.next == wire.NEXT_STEP_LATER and event.HasField("due_time"):
        status.next_attempt_time.CopyFrom(event.due_time)
    status.ClearField("error")
    if event.reason:
        status.error.reason = event.reason
        status.error.detail = event.detail
    status.ClearField("attempts")
    status.attempts.extend(event.attempts)
    for attempt in event.attempts:
        if attempt.provider_message_id:
            status.provider_message_id = attempt.provider_message_id
    return status
