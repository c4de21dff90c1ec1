"""Every adapter by its name in the providers file: an explicit table."""

from collections.abc import Callable

from dispatcher.providers.base import Adapter
from dispatcher.providers.http_json import HttpJson
from dispatcher.providers.simulated import Simulated
from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider

CATALOGUE: dict[str, Callable[[Provider], Adapter]] = {
    "http-json": HttpJson,
    "simulated": Simulated,
}


def open_adapter(provider: Provider) -> Adapter:
    """Make a provider's adapter; raises ConfigError when its settings are wrong."""
    try:
        make = CATALOGUE[provider.adapter]
    except KeyError as exc:
        known = ", ".join(sorted(CATALOGUE))
        raise ConfigError([(f"provider[{provider.name}].adapter", f"is not known; there are {known}")]) from exc
    return make(provider)
