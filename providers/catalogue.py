"""Every dialect by its name, which is the value of `adapter` in the providers file."""

from collections.abc import Callable, Mapping

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.base import Dialect
from providers.http_generic import HttpGeneric
from providers.simulated import Simulated

CATALOGUE: dict[str, Callable[[Provider], Dialect]] = {
    "http-json": HttpGeneric,
    "simulated": Simulated,
}


def dialect_of(provider: Provider, catalogue: Mapping[str, Callable[[Provider], Dialect]] = CATALOGUE) -> Dialect:
    """Make a provider's dialect; raises ConfigError when its adapter is not known or its settings are wrong."""
    try:
        make = catalogue[provider.adapter]
    except KeyError as exc:
        known = ", ".join(sorted(catalogue))
        raise ConfigError([(f"provider[{provider.name}].adapter", f"is not known; the adapters are {known}")]) from exc
    return make(provider)
