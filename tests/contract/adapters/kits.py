"""Every kit, and what opens the client of one."""

import attrs
import pytest

from dispatcher.transport.client import ProviderClient
from dispatcher.transport.http import open_client
from messaging.runtime.providers_file import Provider
from providers.base import Outcome
from providers.catalogue import CATALOGUE, dialect_of
from tests.contract.adapters import kits_foreign, kits_http_json, kits_simulated
from tests.contract.adapters.kit import SUBMISSION, FakeGate

KITS = {**kits_http_json.KITS, **kits_simulated.KITS, **kits_foreign.KITS}
EVERY = pytest.mark.parametrize("kit", KITS.values(), ids=KITS)

_DIALECTS = {**CATALOGUE, **{kit.adapter: kit.dialect for kit in KITS.values() if kit.dialect is not None}}


@attrs.define
class Open:
    """Opens clients, and remembers them so that they are closed when the test ends."""

    clients: list[ProviderClient] = attrs.Factory(list)

    def __call__(self, provider: Provider) -> ProviderClient:
        self.clients.append(open_client(provider, dialect_of(provider, _DIALECTS)))
        return self.clients[-1]


async def send(client: ProviderClient, gate: FakeGate | None = None) -> Outcome:
    return await client.send(SUBMISSION, gate or FakeGate())
