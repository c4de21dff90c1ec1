"""Runs in a caller's pod: sends at a steady rate, repeats each message until it is accepted, and prints the results.

sender.py ADDRESS COUNT RATE NAME prints a line with the id of each message, then the longest wait and the retries.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

_ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
RETRY_S = 0.2
FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Errors for which a retry does not help."""


async def accepted(
    send_sms: Callable[..., Awaitable[api.SendSmsResponse]], request: api.SendSmsRequest, refused: Counter[str]
) -> tuple[str, float]:
    """Send one message until it is accepted; its request_id makes that safe. Returns its id and the seconds it took."""
    asked = time.monotonic()
    while True:
        try:
            return (await send_sms(request, timeout=5)).message_id, time.monotonic() - asked
        except grpc.aio.AioRpcError as error:
            if error.code() in FINAL:
                raise
            refused[error.code().name] += 1
            await asyncio.sleep(RETRY_S)


async def main(address: str, count: int, rate: float, name: str) -> None:
    """Send everything; a call that waits does not delay the others."""
    refused: Counter[str] = Counter()
    options = [("grpc.service_config", _ROUND_ROBIN)]
    async with grpc.aio.insecure_channel(address, options=options) as channel, asyncio.TaskGroup() as group:
        stub = rpc.SmsGatewayServiceStub(channel)
        began = time.monotonic()
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            request = api.SendSmsRequest(recipient=f"+23320{number:07d}", body="Rolled", request_id=f"{name}-{number}")
            tasks.append(group.create_task(accepted(stub.SendSms, request, refused)))
        results = [await one for one in tasks]
    for identifier, _ in results:
        sys.stdout.write(f"id {identifier}\n")
    sys.stdout.write(f"longest wait {max(took for _, took in results):.2f} s\n")
    for code, times in sorted(refused.items()):
        sys.stdout.write(f"asked again {times} times after {code}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
