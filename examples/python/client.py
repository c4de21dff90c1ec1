"""An SMS gateway client: sends one message, repeats it, sends many, asks for a status, reads errors, and retries.

PYTHONPATH=gen python client.py [ADDRESS [BUSY_ADDRESS]]
"""

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

TIMEOUT_S = 10
RETRYABLE = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
CODES = {code: code.value[0] for code in grpc.StatusCode}


def detail(status: status_pb2.Status | None, kind: Any) -> Any:
    """Find the detail of one kind in a rich status; None when it has none."""
    for packed in status.details if status else ():
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None


def with_retry(
    call: Callable[[], Any],
    attempts: int = 8,
    on_retry: Callable[[grpc.StatusCode, float], None] = lambda _code, _delay_s: None,
) -> Any:
    """Repeat a call when the gateway asks for it. Safe for a message with a request_id: it is sent only once."""
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in RETRYABLE or attempt == attempts:
                raise
            info = detail(rpc_status.from_call(error), details.RetryInfo)
            # Without RetryInfo, the gateway was not reached. Wait longer each time.
            delay_s = info.retry_delay.ToTimedelta().total_seconds() if info else min(0.1 * 2**attempt, 10)
            on_retry(error.code(), delay_s)
            time.sleep(delay_s)
    raise AssertionError


class Retries:
    """Records each (code, seconds) with which a gateway asked for a retry."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, float]] = set()

    def __call__(self, code: grpc.StatusCode, delay_s: float) -> None:
        self._seen.add((CODES[code], delay_s))

    def listed(self) -> list[dict[str, float]]:
        return [{"code": code, "delay_s": delay_s} for code, delay_s in sorted(self._seen)]


def send(gateway: rpc.SmsGatewayServiceStub, message: api.SendSmsRequest, **retry: Any) -> api.SendSmsResponse:
    return with_retry(lambda: gateway.SendSms(message, timeout=TIMEOUT_S), **retry)


def send_many(gateway: rpc.SmsGatewayServiceStub, run: str) -> list[Any]:
    """Send three chunks on one stream; each message is accepted or refused on its own."""
    recipients = [["+233201000001", "+233201000002"], ["+233201000003", "+12"], ["+233201000004"]]
    chunks = [
        api.BatchSendRequest(
            sequence=sequence,
            messages=[
                api.SendSmsRequest(recipient=one, body="One of many", request_id=f"{run}-{sequence}-{index}")
                for index, one in enumerate(chunk)
            ],
        )
        for sequence, chunk in enumerate(recipients)
    ]
    return [
        {"sequence": answer.sequence, "results": [result_of(one) for one in answer.results]}
        for answer in gateway.BatchSend(iter(chunks), timeout=TIMEOUT_S)
    ]


def result_of(result: api.BatchSendResult) -> Any:
    if result.WhichOneof("result") == "accepted":
        return "accepted"
    return {"code": result.error.code, "fields": sorted(violations(result.error))}


def violations(status: status_pb2.Status | None) -> dict[str, str]:
    """Read what is wrong with each field."""
    bad = detail(status, details.BadRequest)
    return {one.field: one.description for one in bad.field_violations} if bad else {}


def until_sent(gateway: rpc.SmsGatewayServiceStub, message_id: str, within_s: float = 30) -> pb.MessageStatus:
    """Ask for the status until a provider has taken the message. WatchStatus does the same without polling."""
    end = time.monotonic() + within_s
    while True:
        status = gateway.GetStatus(api.GetStatusRequest(message_id=message_id), timeout=TIMEOUT_S).status
        if status.state == pb.MESSAGE_STATE_SENT or status.final or time.monotonic() > end:
            return status
        time.sleep(0.1)


def refused(gateway: rpc.SmsGatewayServiceStub) -> Any:
    """Send a message that is not valid, and read every fault from the error."""
    try:
        send(gateway, api.SendSmsRequest(recipient="nobody", sender="far too long a sender"))
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        info = detail(status, details.ErrorInfo)
        return {
            "code": CODES[error.code()],
            "reason": info.reason,
            "domain": info.domain,
            "violations": violations(status),
        }
    return "accepted"


def busy(address: str, run: str) -> Any:
    """Send three messages to a gateway whose backlog has room for one: it says when to retry."""
    retries = Retries()
    with grpc.insecure_channel(address) as channel:
        gateway = rpc.SmsGatewayServiceStub(channel)
        for index in range(3):
            message = api.SendSmsRequest(recipient="+233201234567", body="In time", request_id=f"{run}-busy-{index}")
            send(gateway, message, on_retry=retries)
    return {"accepted": 3, "retries": retries.listed()}


def exercise(address: str, busy_address: str | None) -> dict[str, Any]:
    run = f"python-{uuid.uuid4()}"
    with grpc.insecure_channel(address) as channel:
        gateway = rpc.SmsGatewayServiceStub(channel)
        message = api.SendSmsRequest(
            recipient="+233 20 123 4567",
            body="Grüße aus Ακρα",
            priority=pb.PRIORITY_OTP,
            request_id=run,
            client_reference="Bestellung № 1",
            labels={"shop": "Kumasi", "order": "1"},
        )
        retries = Retries()
        first, again = send(gateway, message, on_retry=retries), send(gateway, message)
        batch = send_many(gateway, run)
        status = until_sent(gateway, first.message_id)
        return {
            "client": "python",
            "sent": {
                "state": pb.MessageState.Name(first.state),
                "encoding": pb.Encoding.Name(first.encoding),
                "segments": first.segments,
                "recipient": first.recipient,
                "replayed": first.replayed,
                "retries": retries.listed(),
            },
            "again": {"replayed": again.replayed, "same_message_id": again.message_id == first.message_id},
            "batch": batch,
            "status": {
                "state": pb.MessageState.Name(status.state),
                "attempts": [pb.AttemptOutcome.Name(one.outcome) for one in status.attempts],
                "client_reference": status.client_reference,
                "labels": dict(status.labels),
            },
            "refused": refused(gateway),
            "busy": busy(busy_address, run) if busy_address else None,
        }


if __name__ == "__main__":
    addresses = [*sys.argv[1:], "127.0.0.1:50051"]
    document = exercise(addresses[0], addresses[1] if len(sys.argv) > 2 else None)
    print(json.dumps(document, indent=2, ensure_ascii=False))
