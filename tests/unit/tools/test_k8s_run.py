"""How the run on podman sends: a gateway that is away for a moment costs no message."""

import grpc
import pytest
from sms.gateway.v1 import gateway_pb2 as api

from tools import k8s_run


class Gateway:
    """A gateway that answers with each of these codes, and accepts then."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self._codes = list(codes)
        self.asked: list[str] = []

    async def send_sms(self, request: api.SendSmsRequest, timeout: float) -> api.SendSmsResponse:
        assert timeout > 0
        self.asked.append(request.request_id)
        if self._codes:
            empty = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(self._codes.pop(0), empty, empty)
        return api.SendSmsResponse(message_id="m")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k8s_run, "PAUSE_S", 0)


AWAY, WRONG = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT
REQUEST = api.SendSmsRequest(request_id="roll-1")


async def test_a_message_is_sent_again_under_its_request_id_until_it_is_accepted() -> None:
    gateway = Gateway(AWAY, AWAY)
    assert await k8s_run.accepted(gateway.send_sms, REQUEST) == "m"
    assert gateway.asked == ["roll-1"] * 3


async def test_a_refusal_is_not_repeated() -> None:
    gateway = Gateway(WRONG)
    with pytest.raises(grpc.aio.AioRpcError):
        await k8s_run.accepted(gateway.send_sms, REQUEST)
    assert len(gateway.asked) == 1


async def test_a_gateway_that_stays_away_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k8s_run, "PATIENCE_S", -1)
    with pytest.raises(grpc.aio.AioRpcError):
        await k8s_run.accepted(Gateway(AWAY, AWAY).send_sms, REQUEST)
