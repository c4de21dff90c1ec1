"""The dialect of the simulated provider (`ops/simulator`): the generic one with fixed settings."""

import attrs

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.http_generic import HttpGeneric
from providers.http_shape import LONGEST_MISSING_AFTER_S, LookUp, Shape

_SHAPE = Shape(
    headers={},
    fields={
        "reference": "{message_id}",
        "to": "{recipient}",
        "from": "{sender}",
        "text": "{body}",
        "segments": "{segments}",
    },
    id_path="id",
    success_path="status",
    success_values=("accepted",),
    code_path="error.code",
    codes={"permanent": ("invalid_recipient",), "provider_fault": ("no_balance", "unauthorized")},
)
_OWN = frozenset({"look_up", "missing_after_s", "server_errors"})


class Simulated(HttpGeneric):
    """Its own settings are look_up (true: ask about unclear outcomes), missing_after_s and server_errors (a 500).

    Raises ConfigError when they are wrong.
    """

    def __init__(self, provider: Provider) -> None:
        where = f"provider[{provider.name}].settings"
        unknown = "is not known; the settings are look_up, missing_after_s, server_errors"
        faults = [(f"{where}.{key}", unknown) for key in provider.settings if key not in _OWN]
        server_errors = provider.settings.get("server_errors", "ambiguous")
        if server_errors not in ("ambiguous", "transient"):
            faults.append((f"{where}.server_errors", "must be ambiguous or transient"))
        if not isinstance(provider.settings.get("look_up", False), bool):
            faults.append((f"{where}.look_up", "must be true or false"))
        missing_after_s = provider.settings.get("missing_after_s", 60)
        is_number = isinstance(missing_after_s, int | float) and not isinstance(missing_after_s, bool)
        if not is_number or not 0 <= missing_after_s <= LONGEST_MISSING_AFTER_S:
            faults.append((f"{where}.missing_after_s", "must be a number of seconds up to 604800"))
        if faults:
            raise ConfigError(faults)
        shape = attrs.evolve(_SHAPE, statuses={server_errors: (500,)})
        if provider.settings.get("look_up"):
            look_up = LookUp("/v1/messages/{message_id}", authoritative=True, missing_after_s=missing_after_s)
            shape = attrs.evolve(shape, look_up=look_up)
        if "api_key" in provider.secrets:
            shape = attrs.evolve(shape, headers={"authorization": "Bearer {secret.api_key}"})
        super().__init__(attrs.evolve(provider, url=provider.url.rstrip("/") + "/v1/messages"), shape)
