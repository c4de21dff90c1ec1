"""The settings of a provider with the adapter `http-json`, which are enough for most simple APIs.

All are optional. `{…}` is replaced by a value of the message: message_id, recipient (E.164), digits (recipient without
the plus), sender, body, segments, attempt, unicode (true or false), validity_s (seconds until the deadline); or by
secret.NAME.

    method = "POST"                        POST, PUT or GET
    encoding = "json"                      json, form or query
    headers = {"api-key" = "{secret.key}"}
    fields = {to = "{recipient}", ...}     dotted keys make nested objects, a trailing [] makes a list of one
    id_path = "data.0.id"                  where the answer holds the provider's message id
    success_path = "status"                its value must be one of success_values for a success
    success_values = ["success"]
    code_path = "error.code"               where an error answer holds the provider's code
    statuses = {permanent = [400, 422], ...}   HTTP statuses by outcome; they override statuses.STATUSES
    codes = {permanent = ["21211"], ...}   provider codes by outcome; they override the status
    look_up = {url = "…/{message_id}", found = [200], missing = [404], id_path = "id",
               success_path = "", success_values = [], authoritative = false, missing_after_s = 60}
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import attrs
import cattrs

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from providers.bodies import spell
from providers.http_template import NOTHING, Template, message_url, nest
from providers.statuses import OUTCOMES

_MISSING_AFTER_S = 60.0
_LONGEST_MISSING_AFTER_S = 7 * 86_400.0


@attrs.frozen
class LookUp:
    """How to ask whether the provider has taken a message, and what its answers are worth.

    A yes needs an id at `id_path` (empty: that of the send's answer), or one of `success_values` at `success_path`. A
    no counts only if the provider's look-up is `authoritative`, and only `missing_after_s` after the attempt has ended.
    """

    url: str
    found: tuple[int, ...] = (200,)
    missing: tuple[int, ...] = (404,)
    id_path: str = ""
    success_path: str = ""
    success_values: tuple[str, ...] = ()
    authoritative: bool = False
    missing_after_s: float | None = None

    def waits_s(self, timeout_s: float) -> float:
        """Return how long after an attempt a no begins to count, for a provider with this time-out."""
        return max(_MISSING_AFTER_S, 3 * timeout_s) if self.missing_after_s is None else self.missing_after_s


@attrs.frozen
class Shape:
    """The settings of one provider, checked."""

    method: Literal["POST", "PUT", "GET"] = "POST"
    encoding: Literal["json", "form", "query"] = "json"
    headers: dict[str, str] = attrs.Factory(dict)
    fields: dict[str, str] = attrs.Factory(
        lambda: {"to": "{recipient}", "from": "{sender}", "text": "{body}", "reference": "{message_id}"}
    )
    id_path: str = ""
    success_path: str = ""
    success_values: tuple[str, ...] = ()
    code_path: str = ""
    statuses: dict[str, tuple[int, ...]] = attrs.Factory(dict)
    codes: dict[str, tuple[str, ...]] = attrs.Factory(dict)
    look_up: LookUp | None = None


def read_shape(provider: Provider) -> Shape:
    """Read the settings of one provider; raises ConfigError with all faults."""
    where = f"provider[{provider.name}].settings"
    try:
        shape = _converter().structure(provider.settings, Shape)
    except cattrs.BaseValidationError as exc:
        raise ConfigError([(where, text) for text in cattrs.transform_error(exc, path=where)]) from exc
    if faults := [(f"{where}{key}", text) for key, text in _faults(shape, provider)]:
        raise ConfigError(faults)
    return shape


def _converter() -> cattrs.Converter:
    """Make the converter of settings; it refuses a string for a list, which would become a list of its letters."""

    def listed(value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError("must be a list")
        return tuple(map(int if get_args(kind)[0] is int else spell, value))

    def flag(value: Any, _: type) -> bool:
        if not isinstance(value, bool):
            raise TypeError("must be true or false")
        return value

    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(bool, flag)
    converter.register_structure_hook_func(lambda kind: kind in {tuple[int, ...], tuple[str, ...]}, listed)
    return converter


def _faults(shape: Shape, provider: Provider) -> Iterator[tuple[str, str]]:
    """Find what is wrong with settings that have the right types."""
    for table in ("statuses", "codes"):
        for name in getattr(shape, table):
            if name not in OUTCOMES:
                yield f".{table}.{name}", f"is not an outcome; the outcomes are {', '.join(OUTCOMES)}"
    template = Template(shape.headers, shape.fields, provider.secrets)
    try:
        template.headers(NOTHING)
        template.fields(NOTHING)
        if shape.look_up is not None:
            message_url(shape.look_up.url, provider.url, "")
    except (KeyError, ValueError, IndexError, TypeError) as exc:
        yield "", f"has a name in braces that no message has: {exc}"
    if shape.look_up is not None:
        yield from _look_up_faults(shape.look_up)
    try:
        nest(shape.fields)
    except (TypeError, AttributeError):
        yield ".fields", "has a dotted key below a key that has a value"
    if shape.method == "GET" and shape.encoding != "query":
        yield ".encoding", "must be query for the method GET"


def _look_up_faults(look_up: LookUp) -> Iterator[tuple[str, str]]:
    if bool(look_up.success_path) != bool(look_up.success_values):
        yield ".look_up.success_path", "and success_values must be set together"
    if not 0 <= look_up.waits_s(0.0) <= _LONGEST_MISSING_AFTER_S:
        yield ".look_up.missing_after_s", "must be between 0 and 604800"
