"""How full the stream is: the used part of the limit of the account, or of the server when that has none."""

import json
import pathlib

from messaging.runtime.providers_file import Provider
from messaging.stream import setup
from messaging.stream.connection import open_connection
from messaging.stream.fleet import UNLIMITED, FleetView
from ops.embedded import NatsServer
from ops.system import System
from tests.integration.control import Smsctl
from tests.integration.streams import PROVIDERS, SETTINGS, accept, an_address

LIMITED = "accounts { SMS { jetstream { max_file: 1000000 }, users: [ { user: any } ] } }\nno_auth_user: any\n"


async def seen(folder: pathlib.Path, extra_config: str) -> FleetView:
    """What a gateway knows after it has accepted a message of some kilobytes."""
    server = NatsServer(folder, extra_config=extra_config)
    server.start()
    try:
        async with open_connection(server.url, "x") as connection:
            await setup.ensure(connection, SETTINGS, PROVIDERS)
            await accept(connection, an_address(), body="x" * 100_000)
            view = FleetView(connection, [Provider(name, "simulated", "http://x") for name in PROVIDERS], 1.0)
            await view.refresh_backlog()
    finally:
        server.stop()
    return view


async def test_account_with_a_limit_is_as_full_as_the_used_part(tmp_path: pathlib.Path) -> None:
    view = await seen(tmp_path, LIMITED)
    assert view.storage_limited
    assert 0.1 <= view.storage_fill < 0.5


async def test_account_without_a_limit_is_recognised(tmp_path: pathlib.Path) -> None:
    view = await seen(tmp_path, "")
    assert (view.storage_limited, view.storage_fill) == (False, 0.0)


def test_gateway_of_an_account_without_a_limit_goes_by_that_of_its_server(system: System) -> None:
    (log,) = (system.folder / "log").glob("gateway*")
    (line,) = [json.loads(one) for one in log.read_text().splitlines() if "no storage limit" in one]
    assert line["bytes"] > 10**8
    assert UNLIMITED not in log.read_text()


def test_cluster_without_a_limit_is_not_fit_for_production(system: System, smsctl: Smsctl) -> None:
    assert smsctl("topology").exit_code == 0
    failed = smsctl("topology", SMSGW_REPLICAS="3")
    assert failed.exit_code == 1
    assert UNLIMITED in failed.stderr
    assert UNLIMITED not in smsctl("topology", SMSGW_REPLICAS="3", SMSGW_STORAGE_MAX_BYTES="1000000000").stderr
