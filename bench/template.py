"""A record that the gateway has published: floor and seeder publish its bytes and headers again."""

import os
import time
from collections.abc import Mapping

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.model import KEY_BYTES, Address, Lane, key_from_bytes, new_address
from messaging.stream import topology as topo
from messaging.stream.interface import Connection


@attrs.frozen
class Template:
    """The bytes and headers of one acceptance on the stream."""

    data: bytes
    traceparent: str

    @classmethod
    async def read(cls, connection: Connection) -> "Template":
        """Read the newest acceptance; raises LookupError when there is none."""
        record = await connection.last(topo.ACCEPT, "sms.accept.>")
        if record is None:
            raise LookupError("the gateway has accepted nothing yet")
        return cls(record.data, record.headers.get(codec.TRACEPARENT, ""))

    def subject(self, provider: str, lane: str = Lane.NORMAL) -> tuple[str, Address]:
        """Make the subject and the address of a new message."""
        address = new_address("default", int(time.time() * 1000), key_from_bytes(os.urandom(KEY_BYTES)))
        return topo.accept_subject(provider, lane, address), address

    def headers(self, address: Address, *, conditional: bool) -> Mapping[str, str]:
        """Make the headers: the trace and, if `conditional`, the condition that the request is new."""
        trace = {codec.TRACEPARENT: self.traceparent}
        if not conditional:
            return trace
        key_filter = topo.accept_key_filter(address.client, address.key)
        return {topo.H_EXPECTED: "0", topo.H_EXPECTED_SUBJECT: key_filter, **trace}

    def command(self, address: Address, provider: str) -> bytes:
        """Make the bytes of a complete message with that address, which can be sent and projected."""
        entry = wire.QueueEntry.FromString(self.data)
        now = time.time()
        entry.command.message_id = address.message_id
        entry.command.request_id = address.key
        entry.command.provider = provider
        entry.command.accept_time.CopyFrom(codec.timestamp(now))
        entry.command.deadline.CopyFrom(codec.timestamp(now + 86_400))
        return entry.SerializeToString()
