"""The providers file: one `[[provider]]` table for each provider, read once; every fault is reported with its key."""

import os
import re
import tomllib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from messaging.errors import ConfigError
from messaging.model import Lane
from messaging.runtime.secret import MASK, Secret, mask_address

_CURE = "write one like providers.example.toml and set this to its path, or run this where `smsctl up` runs"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SENDER = re.compile(r"([+]?[0-9]{3,15}|[A-Za-z0-9 ._&-]{1,11})?")
"""The form of a sender ID, as the API has it."""


@attrs.frozen
class Provider:
    """One provider as configured. Rates are units a second: requests, or segments with `charge = "segment"`.

    `burst` names the messages that may leave at once, as many as the rate allows in a second; the others are spread.
    """

    name: str
    adapter: str
    url: str = attrs.field(repr=mask_address)
    rate_per_s: int = 50
    weight: int = 1
    priority: int = 0
    enabled: bool = True
    draining: bool = False
    charge: Literal["request", "segment"] = "request"
    burst: Literal["otp", "all", "none"] = "otp"
    timeout_s: float = 10.0
    max_in_flight: int = 256
    keepalive_s: float = 4.0
    sender: str = ""
    settings: dict[str, Any] = attrs.field(factory=dict, repr=lambda settings: repr(_masked(settings)))
    secrets: dict[str, Secret] = attrs.Factory(dict)

    def at_once(self, lane: Lane) -> bool:
        """Whether a lane's messages may leave as a burst; otherwise they are spread over the second."""
        return self.burst == "all" or (self.burst == "otp" and lane is Lane.OTP)

    def cost(self, segments: int) -> int:
        """Return how many units of the rate a message uses."""
        return max(1, segments) if self.charge == "segment" else 1


_RANGES: dict[str, tuple[float, float]] = {
    "rate_per_s": (1, 10_000),
    "weight": (1, 1000),
    "priority": (0, 1000),
    "timeout_s": (0.1, 120),
    "max_in_flight": (1, 10_000),
    "keepalive_s": (0, 600),
}


def read_providers(
    path: str | Path, environment: Mapping[str, str] | None = None, *, keys_of: Container[str] | None = None
) -> tuple[Provider, ...]:
    """Read the providers in the order of the file; raises ConfigError with all faults.

    `keys_of` names the providers whose secrets are read, None means all: a process that does not call a provider does
    not have its keys.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ConfigError([("SMSGW_PROVIDERS_FILE", f"{path} cannot be read ({exc.strerror}): {_CURE}")]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([("SMSGW_PROVIDERS_FILE", f"{path} is not UTF-8: save it as plain UTF-8 text")]) from exc
    except (ValueError, RecursionError) as exc:  # also a number of thousands of digits, and thousands of brackets
        raise ConfigError([("SMSGW_PROVIDERS_FILE", f"{path} is not TOML: {exc}")]) from exc
    return parse_providers(document, os.environ if environment is None else environment, keys_of=keys_of)


def parse_providers(
    document: Mapping[str, Any], environment: Mapping[str, str], *, keys_of: Container[str] | None = None
) -> tuple[Provider, ...]:
    """Check a parsed file; raises ConfigError with all faults."""
    faults = [(key, "is not a known key: the file holds [[provider]] tables") for key in document if key != "provider"]
    tables = document.get("provider", [])
    if not isinstance(tables, list) or not tables:
        raise ConfigError([*faults, ("provider", "is missing: at least one [[provider]] table is needed")])
    found = []
    for index, table in enumerate(tables):
        if not isinstance(table, dict):
            faults.append((f"provider[{index}]", "must be a table"))
            continue
        where = f"provider[{table.get('name', index)}]"
        try:
            wanted = keys_of is None or str(table.get("name")) in keys_of
            provider = _converter(environment if wanted else None).structure(table, Provider)
        except cattrs.BaseValidationError as exc:
            faults += [_fault(where, text) for text in cattrs.transform_error(exc, where, _sentence)]
        else:
            faults += [(f"{where}.{key}", text) for key, text in _wrong(provider)]
            found.append(provider)
    names = [provider.name for provider in found]
    faults += [(f"provider[{name}].name", "is used twice") for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise ConfigError(faults)
    return tuple(found)


def _wrong(provider: Provider) -> list[tuple[str, str]]:
    faults = []
    if not _NAME.fullmatch(provider.name):
        faults.append(("name", "may contain up to 32 of a-z, 0-9 and -, and must begin with a letter or digit"))
    if not re.match(r"https?://[^\s/]+", provider.url):
        faults.append(("url", "must be an http or https URL"))
    if not _SENDER.fullmatch(provider.sender):
        sentence = "no network takes it: it must be 3 to 15 digits, or up to 11 letters, digits, spaces and ._&-"
        faults.append(("sender", f"{sentence}; write an id of another kind into the adapter's fields themselves"))
    for key, (low, high) in _RANGES.items():
        if not low <= getattr(provider, key) <= high:
            faults.append((key, f"must be between {low:g} and {high:g}"))
    return faults


def _sentence(exc: BaseException, kind: type | None) -> str:
    """Describe a fault; the readers below raise ValueError with their own sentences."""
    if isinstance(exc, ValueError):
        return str(exc)
    if get_origin(kind) is Literal:
        return f"must be one of {', '.join(get_args(kind))}"
    return cattrs.v.format_exception(exc, kind)


def _fault(where: str, text: str) -> tuple[str, str]:
    sentence, _, path = text.rpartition(" @ ")
    return (path or where), sentence or text


def _converter(environment: Mapping[str, str] | None) -> cattrs.Converter:
    """Make the converter; without an environment, only the form of secrets is checked, and they stay empty."""

    def secret(value: Any, _: type) -> Secret:
        if not isinstance(value, dict) or len(value) != 1 or not {"env", "file"} & set(value):
            raise ValueError('must be {env = "NAME"} or {file = "PATH"}: this file must not contain secrets')
        if environment is None:
            return Secret("")
        if "env" in value:
            name = str(value["env"])
            if not environment.get(name):
                raise ValueError(f"environment variable {name} is not set")
            return _secret_of(environment[name].encode(errors="surrogateescape"), f"environment variable {name}")
        path = str(value["file"])
        try:
            return _secret_of(Path(path).read_bytes(), path)
        except OSError as exc:
            raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc

    def exact(value: Any, kind: type) -> Any:
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (kind is not bool and isinstance(value, bool)):
            raise ValueError(f"must be of type {kind.__name__}")
        return kind(value)

    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (int, float, str, bool):
        converter.register_structure_hook(kind, exact)
    converter.register_structure_hook(Secret, secret)
    converter.register_structure_hook(
        Provider, make_dict_structure_fn(Provider, converter, _cattrs_forbid_extra_keys=True)
    )
    return converter


def _secret_of(data: bytes, where: str) -> Secret:
    """Read a secret without the line end and byte-order mark that editors add; raises ValueError when it is none."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as exc:
        raise ValueError(f"{where} is not UTF-8: save it as plain UTF-8 text") from exc
    if not text:
        raise ValueError(f"{where} is empty")
    if not text.isprintable():
        raise ValueError(f"{where} holds a line break or an invisible character: a key is one line of plain text")
    return Secret(text)


def private_values_of(provider: Provider) -> tuple[str, ...]:
    """Return everything of a provider that must not be shown: its secrets, and what its URL holds beside names."""
    authority = re.match(r"https?://([^/?#]*)@", provider.url)
    values = re.findall(r"[?&][^=&#]*=([^&#]*)", provider.url)
    in_url = [one for one in [*(authority[1].split(":") if authority else ()), *values] if one and "{" not in one]
    return tuple(dict.fromkeys([*(secret.reveal() for secret in provider.secrets.values()), *in_url]))


def as_table(provider: Provider) -> dict[str, Any]:
    """Return a provider as people may see it: with its secrets masked."""
    table = attrs.asdict(provider, recurse=False)
    table["secrets"] = dict.fromkeys(provider.secrets, MASK)
    table["url"] = mask_address(provider.url)
    table["settings"] = _masked(provider.settings)
    return table


_KEY_OF_A_KEY = re.compile(r"(?i)auth|key|token|secret|passw|pwd|signature|credential|(^|[^a-z])(pin|pass|sig|sid)$")


def _masked(value: Any, key: str = "") -> Any:
    """Mask what is probably a key although the file should not contain one; names in braces are shown."""
    if isinstance(value, dict):
        return {name: _masked(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_masked(one, key) for one in value]
    if isinstance(value, str) and "://" in value:
        return mask_address(value)
    if isinstance(value, str) and key == "url":
        return mask_address(value)
    if isinstance(value, str | int) and not isinstance(value, bool) and _KEY_OF_A_KEY.search(key):
        return value if not value or (isinstance(value, str) and "{secret." in value) else MASK
    return value
