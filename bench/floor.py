"""The floor: the minimal work with these libraries, as a baseline. Runs as an agent (bench.agent).

`serve` is a bare grpc.aio server whose SendSms only publishes the bytes and headers that the gateway would publish, as
the manual of nats-py says. `pipeline` publishes the same with nats-py's own pipelining, without gRPC.
"""

import asyncio
import os
import sys
import time
from typing import Any

import grpc
from nats.js.client import JetStreamContext
from sms.gateway.v1 import gateway_pb2 as api

from bench.agent import Work, serve
from bench.template import Template
from messaging.stream.connection import open_connection

_IN_FLIGHT = 256


class BareService:
    """Answers every SendSms with the same response, once the stream has acknowledged the publish."""

    def __init__(self, stream: JetStreamContext, template: Template) -> None:
        self._stream = stream
        self._template = template
        self._answer = api.SendSmsResponse(message_id="0" * 36, provider="p1", segments=1, recipient="+233200000000")
        self.conditional = True

    async def send_sms(self, _request: api.SendSmsRequest, _context: Any) -> api.SendSmsResponse:
        """Publish and answer."""
        subject, address = self._template.subject("p1")
        headers = self._template.headers(address, conditional=self.conditional)
        await self._stream.publish(subject, self._template.data, headers=dict(headers))
        return self._answer

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return its one method as a gRPC handler."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.send_sms,
            request_deserializer=api.SendSmsRequest.FromString,
            response_serializer=api.SendSmsResponse.SerializeToString,
        )
        service = api.DESCRIPTOR.services_by_name["SmsGatewayService"].full_name
        return grpc.method_handlers_generic_handler(service, {"SendSms": handler})


class Floor:
    """The agent of one floor process."""

    def __init__(self, stream: JetStreamContext, template: Template, server: BareService, port: int) -> None:
        self._stream = stream
        self._template = template
        self._server = server
        self._port = port

    async def work(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run the command that `kind` names."""
        kinds: dict[str, Work] = {"serve": self.serve, "pipeline": self.pipeline}
        return await kinds[command.pop("kind")](**command)

    async def serve(self, *, conditional: bool) -> dict[str, Any]:
        """Choose conditional or plain publishes; the server already listens."""
        self._server.conditional = conditional
        return {"address": f"127.0.0.1:{self._port}"}

    async def pipeline(self, *, count: int, conditional: bool) -> dict[str, Any]:
        """Publish the template's bytes with many publishes in flight, and wait for every acknowledgement."""
        made = [self._template.subject("p1") for _ in range(count)]
        began = time.perf_counter()
        for subject, address in made:
            headers = self._template.headers(address, conditional=conditional)
            future = await self._stream.publish_async(subject, self._template.data, headers=dict(headers))
            future.add_done_callback(check_ack)
        await self._stream.publish_async_completed()
        return {"accepted": count, "seconds": time.perf_counter() - began}


def check_ack(future: "asyncio.Future[Any]") -> None:
    """Check an acknowledgement, and exit when it failed, because the figure would be wrong."""
    if future.exception() is not None:
        sys.stderr.write(f"a publish of the floor failed: {future.exception()}\n")
        sys.exit(1)


async def main(url: str) -> None:
    """Serve until standard input ends."""
    async with open_connection(url, "bench-floor") as connection:
        template = await Template.read(connection)
        stream = connection.client.jetstream(timeout=30, publish_async_max_pending=_IN_FLIGHT)
        bare = BareService(stream, template)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((bare.handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await serve(Floor(stream, template, bare, port).work)
        await server.stop(0.2)


if __name__ == "__main__":
    asyncio.run(main(os.environ["SMSGW_NATS_URL"]))
