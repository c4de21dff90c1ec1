"""The private parts of nats-py that `messaging.stream` stands on: each test is red when a new version changes one.

`pyproject.toml` keeps nats-py below the next minor version; raise the bound when these pass with it.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from messaging.stream.client import StreamClient
from messaging.stream.connection import NatsConnection, open_connection
from ops.embedded import NatsServer

SIGNATURES: dict[Callable[..., Any], tuple[str, ...]] = {
    Client._process_msg: ("self", "sid", "subject", "reply", "data", "headers"),
    Client._process_headers: ("self", "headers"),
    Client._build_message: ("self", "sid", "subject", "reply", "data", "headers"),
    Client._remove_sub: ("self", "sid", "max_msgs"),
    Client._process_err: ("self", "err_msg"),
    Client._process_op_err: ("self", "e"),
}
"""What is overridden or called, with its parameters."""


@pytest_asyncio.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with open_connection(nats_server.url, "test") as one:
        yield one


@pytest.mark.parametrize("method", SIGNATURES, ids=lambda method: method.__name__)
def test_method_that_is_overridden_or_called_takes_what_it_took(method: Callable[..., Any]) -> None:
    assert tuple(inspect.signature(method).parameters) == SIGNATURES[method]


@pytest.mark.parametrize("name", ["_process_msg", "_process_headers", "_process_err", "_process_op_err"])
def test_method_that_is_awaited_is_a_coroutine(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(Client, name))


@pytest.mark.parametrize("name", ["_build_message", "_remove_sub"])
def test_method_that_is_not_awaited_is_none(name: str) -> None:
    assert not inspect.iscoroutinefunction(getattr(Client, name))


async def heard(connection: NatsConnection, subject: str) -> tuple[Subscription, "asyncio.Queue[Msg]"]:
    found: asyncio.Queue[Msg] = asyncio.Queue()
    return await connection.client.listen(subject, found.put_nowait), found


async def test_parser_hands_each_message_to_process_msg_with_and_without_headers(connection: NatsConnection) -> None:
    subscription, found = await heard(connection, "contract.msg")
    for headers in (None, {"Name": "value"}):
        await connection.client.publish("contract.msg", b"data", "reply", headers)
        msg = await asyncio.wait_for(found.get(), 20)
        assert (msg.subject, msg.data, msg.reply, msg.headers) == ("contract.msg", b"data", "reply", headers)
        assert msg._sid == subscription._id
    assert subscription._pending_queue.empty(), "the override took them: nothing is queued a second time"


async def test_subscription_is_known_by_its_id(connection: NatsConnection) -> None:
    subscription, _ = await heard(connection, "contract.id")
    assert isinstance(subscription._id, int)
    assert connection.client._subs[subscription._id] is subscription


async def test_unsubscribing_removes_the_subscription_through_remove_sub(connection: NatsConnection) -> None:
    subscription, _ = await heard(connection, "contract.end")
    assert subscription._id in connection.client._handlers
    await subscription.unsubscribe()
    assert subscription._id not in connection.client._handlers
    assert subscription._id not in connection.client._subs


async def answers_after(client: Client, error: bytes) -> bool:
    """Have the server say an error; whether the client is there again afterwards, or has closed itself."""
    await client._ps.parse(b"-ERR '" + error + b"'\r\n")
    async with asyncio.timeout(20):
        while not client.is_closed:
            await asyncio.sleep(0.01)
            if client.is_connected:
                await client.flush()
                return True
    return False


@pytest.mark.parametrize("error", [b"Account Authentication Expired", b"Authorization Violation"])
async def test_client_comes_back_when_the_server_says_why_it_hangs_up(connection: NatsConnection, error: bytes) -> None:
    assert await answers_after(connection.client, error)


async def test_client_of_the_library_does_not_or_the_override_could_go(nats_server: NatsServer) -> None:
    async def ignore(_exc: Exception) -> None:
        pass

    client = Client()
    await client.connect(nats_server.url, error_cb=ignore)
    assert not await answers_after(client, b"Account Authentication Expired")


async def test_refused_permission_is_told_and_ends_nothing(nats_server: NatsServer) -> None:
    told: list[str] = []

    async def tell(exc: Exception) -> None:
        told.append(str(exc))

    client = StreamClient()
    await client.connect(nats_server.url, error_cb=tell)
    await client._ps.parse(b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
    assert client.is_connected
    assert len(told) == 1
    assert "permissions violation" in told[0].lower()
    await client.close()


async def test_server_info_says_whether_encryption_is_required(connection: NatsConnection) -> None:
    """`messaging.stream.access` reads it before it sends a password."""
    assert connection.client._server_info["server_id"]
    assert not connection.client._server_info.get("tls_required")
