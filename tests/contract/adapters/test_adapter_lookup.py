"""Looking a message up at the provider."""

import pytest

from dispatcher.transport.gate import OpenGate
from providers.base import TRANSIENT
from tests.contract.adapters.kit import PATIENCE_S, TIMEOUT_S, TRACEPARENT, Kit
from tests.contract.adapters.kits import KITS, Open
from tests.contract.provider_server import CLOSE, NOTHING, RESET, ProviderServer, Reply

LOOKS_UP = pytest.mark.parametrize(
    "kit", [pytest.param(kit, id=name) for name, kit in KITS.items() if kit.look_up_path]
)
CANNOT = pytest.mark.parametrize(
    "kit", [pytest.param(kit, id=name) for name, kit in KITS.items() if not kit.look_up_path]
)


# Looking up
@LOOKS_UP
async def test_message_that_the_provider_has_is_found(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    assert client.can_look_up
    server.answer = lambda _: kit.found
    found = await client.look_up("0190-message", TRACEPARENT, OpenGate())
    assert found == kit.found_as
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == (kit.look_up_method, kit.look_up_path, kit.look_up_body)
    assert seen.headers["traceparent"] == TRACEPARENT
    assert kit.headers.items() <= seen.headers.items()


@LOOKS_UP
async def test_message_that_the_provider_does_not_know_was_not_taken(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: kit.missing
    found = await opened(kit.provider(server.url)).look_up("0190-message", TRACEPARENT, OpenGate())
    assert found is not None
    assert (found.kind, found.code) == (TRANSIENT, kit.missing_code)


@LOOKS_UP
@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(401), Reply(429), Reply(302), NOTHING, RESET, CLOSE, Reply(raw=b"x\r\n\r\n", then="close")],
)
async def test_look_up_that_says_nothing_is_taken_for_nothing(
    kit: Kit, reply: Reply, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: reply
    timeout_s = TIMEOUT_S if reply is NOTHING else PATIENCE_S
    assert (
        await opened(kit.provider(server.url, timeout_s=timeout_s)).look_up("0190-message", TRACEPARENT, OpenGate())
        is None
    )


@LOOKS_UP
async def test_message_id_cannot_leave_its_place_in_the_path(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: kit.missing
    await opened(kit.provider(server.url)).look_up("../../admin?x=1#y", TRACEPARENT, OpenGate())
    assert server.seen[0].target in {
        kit.look_up_path.replace("0190-message", f"..%2F..%2Fadmin%3Fx{equals}1%23y") for equals in ("=", "%3D")
    }


@CANNOT
async def test_adapter_that_cannot_look_up_says_so(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    assert not client.can_look_up
    assert await client.look_up("0190-message", TRACEPARENT, OpenGate()) is None
    assert server.seen == []
