"""Bugs that a run can have, to show that the checker finds them. The product does not know them.

They are patched into the processes when these start; see `site/sitecustomize.py`.
"""

import itertools
import pathlib
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

_ROOT = pathlib.Path(__file__).parents[3]
_EVERY = 25
_STALE_S = 3.0


def planting(names: str) -> Mapping[str, str]:
    """Return the environment that plants bugs, separated by commas; raises KeyError for an unknown bug."""
    _ = [PLANTS[name] for name in names.split(",")]
    path = ":".join(map(str, (pathlib.Path(__file__).parent / "site", _ROOT, _ROOT / "gen")))
    return {"CHAOS_PLANT": names, "PYTHONPATH": path}


def plant(names: str) -> None:
    """Plant those bugs in this process that are meant for it."""
    for name in names.split(","):
        module, patch = PLANTS[name]
        if module in sys.orig_argv:
            patch()


def _drop_an_ack() -> None:
    """The gateway answers that a message is accepted, but has never written it to the stream."""
    from messaging.stream.publisher import Accepted, Publisher

    turn, accept = itertools.count(1), Publisher.accept

    async def careless(self: Publisher, *args: Any, **kwargs: Any) -> Any:
        return Accepted(0) if next(turn) % _EVERY == 0 else await accept(self, *args, **kwargs)

    Publisher.accept = careless  # type: ignore[method-assign]


def _forget_requests() -> None:
    """The gateway makes a new message of every repeated request."""
    from gateway_grpc import acceptance

    key = acceptance.key_of_request  # type: ignore[attr-defined]
    acceptance.key_of_request = lambda secret, client, _: key(secret, client, uuid.uuid4().hex)  # type: ignore[attr-defined, assignment]


def _skip_the_marker() -> None:
    """A dispatcher calls the provider without having written the attempt's marker."""
    from sms.gateway.v1 import message_pb2 as pb

    from dispatcher.work.event_log import EventLog

    append, begun = EventLog._append, dict[str, Any]()

    async def hasty(self: EventLog, job: Any, event: Any) -> bool:
        name = job.command.message_id
        if event.state == pb.MESSAGE_STATE_SENDING and not event.attempts[-1].outcome:
            job.last = begun[name] = event
            return True
        marker = begun.pop(name, None)
        return (marker is None or await append(self, job, marker)) and await append(self, job, event)

    EventLog._append = hasty  # type: ignore[method-assign]


def _stale_lease() -> None:
    """A dispatcher that was paused keeps using its old share after the lease has ended."""
    from dispatcher.rate.lease import LeaseHolder
    from dispatcher.rate.pacer import Pacer

    sync, until, seen = LeaseHolder.sync, [0.0], [time.monotonic()]

    async def late(self: LeaseHolder) -> None:
        now = time.monotonic()
        if now - seen[0] > 2.0:
            until[0] = now + _STALE_S
        seen[0] = now
        if now >= until[0]:
            await sync(self)

    LeaseHolder.sync = late  # type: ignore[method-assign]
    Pacer.renewed = lambda self, valid_until: setattr(self, "_valid_until", valid_until + 60)  # type: ignore[method-assign]


def _believe_a_no() -> None:
    """A dispatcher believes at once that the provider does not have the message."""
    from dispatcher.work.look_ups import LookUps

    LookUps.missing_after_s = 0.0  # type: ignore[method-assign, assignment]


def _double_the_share() -> None:
    """A dispatcher sends twice as fast as its share allows."""
    from dispatcher.rate.pacer import Pacer

    set_share = Pacer.set_share
    Pacer.set_share = lambda self, share: set_share(self, 2 * share)  # type: ignore[method-assign]


def _forget_a_redelivery() -> None:
    """A dispatcher treats redelivered messages as new, and some acknowledgements are not sent."""
    from dispatcher.work import event_log, job_finisher, redelivery
    from messaging.stream.consumer import NatsDelivery

    turn, ack = itertools.count(1), NatsDelivery.ack

    async def lost(self: NatsDelivery, *args: Any, **kwargs: Any) -> bool:
        return False if next(turn) % _EVERY == 0 and self.delivered == 1 else await ack(self, *args, **kwargs)

    NatsDelivery.ack = lost  # type: ignore[method-assign]
    job_finisher.action_for = lambda *_: redelivery.RedeliveryAction.START_ATTEMPT  # type: ignore[attr-defined]
    event_log.may_follow = lambda *_: True  # type: ignore[attr-defined]


def _drop_an_entry() -> None:
    """A dispatcher acknowledges some messages without having worked on them."""
    from dispatcher.work.intake import Intake

    turn, following = itertools.count(1), Intake.next

    async def forgetful(self: Intake) -> Any:
        while True:
            drawn = await following(self)
            if next(turn) % _EVERY:
                return drawn
            await drawn.delivery.ack()
            self.release(drawn.delivery)

    Intake.next = forgetful  # type: ignore[method-assign]


def _forget_a_message() -> None:
    """A dispatcher drops some messages, and the sweeper does not end overdue ones."""
    from dispatcher.duties.sweeper import Sweeper

    async def idle(self: Sweeper, now: float) -> list[Any]:
        return []

    _drop_an_entry()
    Sweeper._end_page = idle  # type: ignore[method-assign]


def _go_backward() -> None:
    """A dispatcher writes that a sent message is queued again."""
    from sms.dispatch.v1 import dispatch_pb2 as wire
    from sms.gateway.v1 import message_pb2 as pb

    from dispatcher.work.event_log import EventLog

    turn, follow = itertools.count(1), EventLog.take_next_step

    async def confused(self: EventLog, job: Any) -> None:
        await follow(self, job)
        if job.last.state == pb.MESSAGE_STATE_SENT and next(turn) % _EVERY == 0:
            event = wire.Event()
            event.CopyFrom(job.last)
            event.state = pb.MESSAGE_STATE_QUEUED
            await self._publisher.append_event(job.address, event, job.sequence)

    EventLog.take_next_step = confused  # type: ignore[method-assign]


def _skip_a_row() -> None:
    """The projector leaves out some of the events that it acknowledges."""
    from messaging.store.writer import HistoryWriter

    turn, write = itertools.count(1), HistoryWriter.write

    async def sloppy(self: HistoryWriter, batch: Any) -> None:
        await write(self, [one for one in batch if one.event is None or next(turn) % _EVERY])

    HistoryWriter.write = sloppy  # type: ignore[method-assign]


PLANTS: Mapping[str, tuple[str, Callable[[], None]]] = {
    "drop-an-ack": ("gateway_grpc", _drop_an_ack),
    "forget-requests": ("gateway_grpc", _forget_requests),
    "skip-the-marker": ("dispatcher", _skip_the_marker),
    "stale-lease": ("work", _stale_lease),
    "believe-a-no": ("work", _believe_a_no),
    "double-the-share": ("work", _double_the_share),
    "forget-a-redelivery": ("work", _forget_a_redelivery),
    "drop-an-entry": ("work", _drop_an_entry),
    "forget-a-message": ("dispatcher", _forget_a_message),
    "go-backward": ("work", _go_backward),
    "skip-a-row": ("project", _skip_a_row),
}
"""By name: the word in the command line of the processes that get the bug, and the patch."""
