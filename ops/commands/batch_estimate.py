"""Asks the gateway what it would do with each row of a file, and sends nothing."""

import asyncio
import itertools
from collections.abc import Iterator

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.bulk.row import BadRow, Row
from ops.commands.batch_tally import Tally
from ops.commands.gateway_client import CALL_S, refusal_in

_AT_ONCE = 32
_ABOUT_THE_ROW = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION})


async def estimate(stub: rpc.SmsGatewayServiceStub, rows: Iterator[Row | BadRow], tally: Tally) -> None:
    """Estimate every row; raises AioRpcError for an error that is not about a row."""
    while found := await asyncio.to_thread(lambda: list(itertools.islice(rows, _AT_ONCE))):
        for row in found:
            if isinstance(row, BadRow):
                tally.bad(row)
        await asyncio.gather(*(_one(stub, row, tally) for row in found if isinstance(row, Row)))


async def _one(stub: rpc.SmsGatewayServiceStub, row: Row, tally: Tally) -> None:
    try:
        answer = await stub.EstimateSms(api.EstimateSmsRequest(message=row.request), timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        refusal = refusal_in(error) if error.code() in _ABOUT_THE_ROW else None
        if refusal is None:
            raise
        tally.refuse(row, refusal)
    else:
        tally.estimated(answer)
