"""Reads all settings from the environment, and prints them."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from messaging.errors import ConfigError
from messaging.runtime.config.fleet import FleetSettings
from messaging.runtime.config.gateway import GatewaySettings
from messaging.runtime.config.process import ProcessSettings
from messaging.runtime.config.servers import ServerSettings
from messaging.runtime.secret import Secret


@attrs.frozen
class Settings:
    """All settings of one process."""

    servers: ServerSettings = attrs.Factory(ServerSettings)
    gateway: GatewaySettings = attrs.Factory(GatewaySettings)
    fleet: FleetSettings = attrs.Factory(FleetSettings)
    process: ProcessSettings = attrs.Factory(ProcessSettings)


def groups() -> Iterator[tuple[str, type]]:
    """Yield every group of settings as (name, class)."""
    for field in attrs.fields(Settings):
        kind = field.type
        if kind is not None:
            yield field.name, kind


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read every SMSGW_ variable; raises ConfigError with all faults, including names that no setting has.

    A secret may be in a file instead, which `<variable>_FILE` names.
    """
    faults: list[tuple[str, str]] = []
    known: set[str] = set()
    values: dict[str, Any] = {}
    for name, kind in groups():
        given: dict[str, Any] = {}
        for field in attrs.fields(kind):
            variable = field.metadata["variable"]
            known.add(variable)
            if isinstance(field.default, Secret):
                known.add(f"{variable}_FILE")
            try:
                if text := _text(environment, field):
                    given[field.name] = field.metadata["read"](text.strip())
            except ValueError as exc:
                faults.append((variable, f"{exc}"))
        values[name] = kind(**given)
    faults += [
        (name, f"no setting has this name{_meant(name, known)}; docs/configuration.md lists them all")
        for name in sorted(environment)
        if name.startswith("SMSGW_") and name not in known
    ]
    settings = Settings(**values)
    faults += _contradictions(settings)
    if faults:
        raise ConfigError(faults)
    return settings


def _text(environment: Mapping[str, str], field: "attrs.Attribute[Any]") -> str:
    """Return the text that is set for a field; raises ValueError when its file cannot be read, or both are set."""
    variable = field.metadata["variable"]
    text = environment.get(variable, "")
    path = environment.get(f"{variable}_FILE", "") if isinstance(field.default, Secret) else ""
    if not path:
        return text
    if text:
        raise ValueError(f"is set, and so is {variable}_FILE: set only one of them")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or 'it is not UTF-8'}") from exc


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f", did you mean {near[0]}?" if near else ""


def _contradictions(settings: Settings) -> list[tuple[str, str]]:
    faults = []
    if settings.fleet.renew_s * 2 > settings.fleet.lease_s:
        faults.append(("SMSGW_RENEW_S", "must be at most half of SMSGW_LEASE_S, else one lost renewal stops a pod"))
    servers = settings.servers
    if bool(servers.nats_user) != bool(servers.nats_password_file):
        faults.append(("SMSGW_NATS_USER", "and SMSGW_NATS_PASSWORD_FILE must be set together"))
    if bool(servers.nats_cert_file) != bool(servers.nats_key_file):
        faults.append(("SMSGW_NATS_CERT_FILE", "and SMSGW_NATS_KEY_FILE must be set together"))
    if settings.gateway.publish_timeout_s > settings.gateway.accept_budget_s:
        faults.append(("SMSGW_PUBLISH_TIMEOUT_S", "must not exceed SMSGW_ACCEPT_BUDGET_S"))
    return faults


def rows(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield every setting as (variable, value in force, meaning), with secrets masked."""
    for name, kind in groups():
        group = getattr(settings, name)
        for field in attrs.fields(kind):
            value = getattr(group, field.name)
            yield field.metadata["variable"], as_text(value), field.metadata["meaning"]


def as_text(value: object) -> str:
    """Format a value as it would be in its variable; secrets stay masked."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    if isinstance(value, Secret):
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
