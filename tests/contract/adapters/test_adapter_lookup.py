"""Looking a message up at the provider."""

import pytest
from dispatcher.providers.base import (
    ACCEPTED,
    TRANSIENT,
    Outcome,
)

from tests.contract.adapters.kits import EVERY, KITS, PATIENCE_S, TIMEOUT_S, TRACEPARENT, Kit, Open, no
from tests.contract.provider_server import CLOSE, NOTHING, RESET, ProviderServer, Reply

# Looking up
LOOKS_UP = pytest.mark.parametrize(
    "kit",
    [kit for kit in KITS.values() if kit.look_up_path],
    ids=[name for name, kit in KITS.items() if kit.look_up_path],
)


@LOOKS_UP
async def test_message_that_the_provider_has_is_found(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    assert adapter.can_look_up
    server.answer = lambda _: Reply(200, kit.yes)
    found = await adapter.look_up("0190-message", TRACEPARENT)
    assert found == Outcome(ACCEPTED, "p-9", detail="found by look-up")
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("GET", kit.look_up_path, b"")
    assert seen.headers["traceparent"] == TRACEPARENT
    assert kit.headers.items() <= seen.headers.items()


@LOOKS_UP
async def test_message_that_the_provider_does_not_know_was_not_taken(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: Reply(404, no())
    found = await opened(kit.provider(server.url)).look_up("0190-message", TRACEPARENT)
    assert found is not None
    assert (found.kind, found.code) == (TRANSIENT, "404")


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
    assert await opened(kit.provider(server.url, timeout_s=timeout_s)).look_up("0190-message", TRACEPARENT) is None


@LOOKS_UP
async def test_message_id_cannot_leave_its_place_in_the_path(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(404, no())
    await opened(kit.provider(server.url)).look_up("../../admin?x=1#y", TRACEPARENT)
    assert server.seen[0].target in {
        kit.look_up_path.replace("0190-message", f"..%2F..%2Fadmin%3Fx{equals}1%23y") for equals in ("=", "%3D")
    }


@EVERY
async def test_adapter_that_cannot_look_up_says_so(kit: Kit, server: ProviderServer, opened: Open) -> None:
    if kit.look_up_path:
        return
    adapter = opened(kit.provider(server.url))
    assert not adapter.can_look_up
    assert await adapter.look_up("0190-message", TRACEPARENT) is None
    assert server.seen == []
