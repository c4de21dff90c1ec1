"""How the caller's pod of `make k8s-cluster` sends: a gateway that is away for a moment costs no message."""

from collections import Counter

import grpc
import pytest
from sms.gateway.v1 import gateway_pb2 as api

from tools.k8s_cluster import sender


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
    monkeypatch.setattr(sender, "RETRY_S", 0)


REQUEST = api.SendSmsRequest(request_id="roll-1")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
async def test_a_message_is_sent_again_under_its_request_id_until_it_is_accepted(code: str) -> None:
    gateway, refused = Gateway(*[grpc.StatusCode[code]] * 2), Counter[str]()
    identifier, _ = await sender.accepted(gateway.send_sms, REQUEST, refused)
    assert identifier == "m"
    assert gateway.asked == ["roll-1"] * 3
    assert refused == {code: 2}


@pytest.mark.parametrize("code", sorted(code.name for code in sender.FINAL))
async def test_what_trying_again_does_not_mend_is_not_repeated(code: str) -> None:
    gateway = Gateway(grpc.StatusCode[code])
    with pytest.raises(grpc.aio.AioRpcError):
        await sender.accepted(gateway.send_sms, REQUEST, Counter())
    assert len(gateway.asked) == 1
