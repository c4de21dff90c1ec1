"""Seeds the stream quickly with waiting messages, or with histories to be projected. Runs as an agent (bench.agent).

Every message is a complete one: it can be sent, looked up and projected like any other.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

from nats.js.client import JetStreamContext
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from bench.agent import Work, serve
from bench.floor import check_ack
from bench.template import Template
from messaging import codec
from messaging.model import Address, Lane
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection

_IN_FLIGHT = 512
_LANES = (Lane.NORMAL, Lane.BULK)


class Seeder:
    """Publishes without conditions and with many publishes in flight."""

    def __init__(self, stream: JetStreamContext, template: Template) -> None:
        self._stream = stream
        self._template = template

    async def work(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run the command that `kind` names."""
        kinds: dict[str, Work] = {"waiting": self.waiting, "stories": self.stories}
        return await kinds[command.pop("kind")](**command)

    async def waiting(self, *, count: int, providers: list[str]) -> dict[str, Any]:
        """Publish `count` waiting messages, evenly over the providers and the lanes NORMAL and BULK."""
        places = itertools.cycle((provider, lane) for lane in _LANES for provider in providers)
        for provider, lane in itertools.islice(places, count):
            subject, address = self._template.subject(provider, lane)
            await self._publish(subject, self._template.command(address, provider), address)
        await self._stream.publish_async_completed()
        return {"made": count}

    async def stories(self, *, count: int, provider: str) -> dict[str, Any]:
        """Publish `count` messages that were accepted and sent: an acceptance and two events for each."""
        for _ in range(count):
            subject, address = self._template.subject(provider)
            await self._publish(subject, self._template.command(address, provider), address)
            for event in _events(address, provider):
                await self._publish(topo.event_subject(address), event.SerializeToString(), address)
        await self._stream.publish_async_completed()
        return {"made": 3 * count}

    async def _publish(self, subject: str, data: bytes, address: Address) -> None:
        headers = dict(self._template.headers(address, conditional=False))
        future = await self._stream.publish_async(subject, data, headers=headers)
        future.add_done_callback(check_ack)


def _events(address: Address, provider: str) -> Iterator[wire.Event]:
    now = codec.timestamp(time.time())
    attempt = pb.Attempt(number=1, provider=provider, start_time=now)
    for state in (pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_SENT):
        if state == pb.MESSAGE_STATE_SENT:
            attempt.MergeFrom(pb.Attempt(end_time=now, outcome=pb.ATTEMPT_OUTCOME_ACCEPTED, provider_message_id="x-1"))
        yield wire.Event(
            message_id=address.message_id,
            client=address.client,
            state=state,
            provider=provider,
            time=now,
            attempts=[attempt],
            attempt_count=1,
            pod="bench",
        )


async def main(url: str) -> None:
    """Run commands until standard input ends."""
    async with open_connection(url, "bench-seeder") as connection:
        template = await Template.read(connection)
        stream = connection.client.jetstream(timeout=60, publish_async_max_pending=_IN_FLIGHT)
        await serve(Seeder(stream, template).work)


if __name__ == "__main__":
    asyncio.run(main(os.environ["SMSGW_NATS_URL"]))
