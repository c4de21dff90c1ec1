"""Settings: a frozen value, read once from the environment; all faults are reported together, each with its variable.

The metadata of each field holds its variable, its meaning and the function that reads it. `smsctl check-config`, the
table in docs/configuration.md and the errors are made from them. For the providers file, see
`messaging.runtime.providers_file`.
"""

import difflib
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from messaging.errors import ConfigError
from messaging.runtime.secret import DATABASE_SCHEMES, Secret, Url


def _number(low: float, high: float, kind: Callable[[str], float]) -> Callable[[str], Any]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as exc:
            raise ValueError("must be a whole number" if kind is int else "must be a number") from exc
        if not low <= value <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return value

    return read


def _seconds(low: float, high: float) -> Callable[[str], Any]:
    return _number(low, high, float)


def _whole(low: int, high: int) -> Callable[[str], Any]:
    return _number(low, high, int)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _flag(text: str) -> bool:
    return _one_of("true", "false")(text.lower()) == "true"


def _delays(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(",") if part.strip())
    if any(not 0 < value <= 7 * 86400 for value in values):
        raise ValueError("must be seconds between 0 and 604800, separated by commas")
    return values


def _region(text: str) -> str:
    if text and not (len(text) == 2 and text.isalpha()):
        raise ValueError("must be an ISO 3166-1 alpha-2 code such as GH, or empty")
    return text.upper()


def _word(text: str) -> str:
    if not text or not all(char.isalnum() or char in "-_" for char in text):
        raise ValueError("may contain only letters, digits, - and _")
    return text


def _file(text: str) -> str:
    try:
        with Path(text).open("rb"):
            return text
    except OSError as exc:
        raise ValueError(f"{text} cannot be read: {exc.strerror}") from exc


def _database(text: str) -> Url:
    if not text.startswith(DATABASE_SCHEMES):
        raise ValueError(f"is not a URL of PostgreSQL: it must begin with {' or '.join(DATABASE_SCHEMES)}")
    return Url(text)


def setting(variable: str, default: Any, read: Callable[[str], Any], meaning: str) -> Any:
    """Declare one setting: its variable, its default as a value, the function that reads its text, and its meaning."""
    return attrs.field(default=default, metadata={"variable": variable, "read": read, "meaning": meaning})


@attrs.frozen
class ServerSettings:
    """Where the servers and the providers file are."""

    nats: Url = setting("SMSGW_NATS_URL", Url("nats://127.0.0.1:4222"), Url, "nats-server; several separated by commas")
    nats_user: str = setting("SMSGW_NATS_USER", "", _word, "user name for the stream; empty: as in the URL")
    nats_password_file: str = setting(
        "SMSGW_NATS_PASSWORD_FILE", "", _file, "file with that user's password, read again for every connection"
    )
    nats_ca_file: str = setting(
        "SMSGW_NATS_CA_FILE", "", _file, "CA certificate of the stream's servers (PEM); if set, TLS is used"
    )
    nats_cert_file: str = setting("SMSGW_NATS_CERT_FILE", "", _file, "client certificate for the stream (PEM)")
    nats_key_file: str = setting("SMSGW_NATS_KEY_FILE", "", _file, "key of the client certificate (PEM)")
    database: Url = setting(
        "SMSGW_DATABASE_URL", Url("postgresql://smsgw@127.0.0.1:5432/smsgw"), _database, "PostgreSQL, for the history"
    )
    providers_file: str = setting("SMSGW_PROVIDERS_FILE", "providers.toml", str, "the providers file (TOML)")
    replicas: int = setting(
        "SMSGW_REPLICAS",
        1,
        _whole(1, 5),
        "copies of every stream: 3 in production; `make up` starts as many servers as are needed",
    )
    event_days: float = setting("SMSGW_EVENT_DAYS", 7.0, _number(0.01, 365, float), "days that the stream keeps events")
    dead_letter_days: float = setting(
        "SMSGW_DEAD_LETTER_DAYS", 30.0, _number(0.01, 3650, float), "days that dead letters are kept"
    )
    accept_max_bytes: int = setting(
        "SMSGW_ACCEPT_MAX_BYTES", -1, _whole(-1, 2**50), "size limit of the stream of accepted messages; -1: none"
    )


@attrs.frozen
class GatewaySettings:
    """The gateway's gRPC API and what it accepts."""

    listen: str = setting("SMSGW_LISTEN", "127.0.0.1:50051", str, "address of the gRPC server")
    default_region: str = setting(
        "SMSGW_DEFAULT_REGION", "", _region, "region of national numbers, such as GH; empty: only E.164 is accepted"
    )
    strict_numbers: bool = setting(
        "SMSGW_STRICT_NUMBERS", default=False, read=_flag, meaning="refuse numbers that are possible but not assigned"
    )
    id_key: Secret = setting(
        "SMSGW_ID_KEY", Secret("sms-gateway"), Secret, "key of the hash from request_id to message id; never change it"
    )
    window_s: float = setting(
        "SMSGW_IDEMPOTENCY_WINDOW_S", 86400.0, _seconds(60, 604800), "how long a request_id is remembered"
    )
    unkeyed_ttl_s: float = setting(
        "SMSGW_UNKEYED_TTL_S",
        7200.0,
        _seconds(60, 604800),
        "how long the stream keeps an accepted message without request_id or schedule_time",
    )
    max_backlog: int = setting(
        "SMSGW_MAX_BACKLOG", 1_000_000, _whole(1, 10**9), "limit on accepted, unsent messages of all providers together"
    )
    max_backlog_per_provider: int = setting(
        "SMSGW_MAX_BACKLOG_PER_PROVIDER", 250_000, _whole(1, 10**9), "the same for one provider"
    )
    storage_fill: float = setting(
        "SMSGW_STORAGE_FILL",
        0.8,
        _number(0.05, 1.0, float),
        "fraction of the account's storage at which the stream is full; needs an account with a limit (max_file)",
    )
    publish_in_flight: int = setting(
        "SMSGW_PUBLISH_IN_FLIGHT", 256, _whole(1, 4096), "maximum of unacknowledged publishes of one gateway process"
    )
    publish_timeout_s: float = setting(
        "SMSGW_PUBLISH_TIMEOUT_S", 2.5, _seconds(0.1, 30), "wait for one acknowledgement before publishing again"
    )
    accept_budget_s: float = setting(
        "SMSGW_ACCEPT_BUDGET_S", 8.0, _seconds(0.2, 60), "how long accepting one message may take before UNAVAILABLE"
    )
    connection_age_s: float = setting(
        "SMSGW_CONNECTION_AGE_S", 0.0, _seconds(0, 86400), "age at which a caller is asked to reconnect; 0: never"
    )
    batch_read_ahead: int = setting(
        "SMSGW_BATCH_READ_AHEAD", 4, _whole(1, 64), "chunks of one BatchSend stream that are processed at once"
    )


@attrs.frozen
class FleetSettings:
    """The dispatcher fleet: rates, leases, retries, breakers."""

    rate_per_s: int = setting(
        "SMSGW_FLEET_RATE_PER_S", 200, _whole(1, 100_000), "sends a second of all providers together"
    )
    lease_s: float = setting("SMSGW_LEASE_S", 2.5, _seconds(0.5, 60), "how long a share is valid without renewal")
    renew_s: float = setting("SMSGW_RENEW_S", 0.5, _seconds(0.05, 10), "how often a pod renews its lease")
    window_s: float = setting(
        "SMSGW_WINDOW_S", 1.002, _seconds(1.0, 1.1), "length of the enforced window: one second and a margin for jitter"
    )
    ack_wait_s: float = setting(
        "SMSGW_ACK_WAIT_S", 20.0, _seconds(2, 3600), "time without an ack after which a message is redelivered"
    )
    retry_delays_s: tuple[float, ...] = setting(
        "SMSGW_RETRY_DELAYS_S",
        (30.0, 300.0, 1800.0, 7200.0, 21600.0),
        _delays,
        "waits before each round of retries",
    )
    ambiguous_otp: str = setting(
        "SMSGW_AMBIGUOUS_OTP", "resend", _one_of("resend", "hold"), "what to do after an unclear outcome of an OTP"
    )
    ambiguous_other: str = setting(
        "SMSGW_AMBIGUOUS_OTHER", "hold", _one_of("resend", "hold"), "the same for all other messages"
    )
    lookup_after_s: float = setting(
        "SMSGW_LOOKUP_AFTER_S", 5.0, _seconds(0.1, 3600), "wait before asking a provider about an unclear outcome"
    )
    breaker_failures: int = setting(
        "SMSGW_BREAKER_FAILURES", 5, _whole(1, 1000), "consecutive failures that open a breaker"
    )
    breaker_calls: int = setting(
        "SMSGW_BREAKER_CALLS", 20, _whole(1, 10_000), "fewest calls in the window for which the failure ratio counts"
    )
    breaker_window_s: float = setting(
        "SMSGW_BREAKER_WINDOW_S",
        60.0,
        _seconds(1, 3600),
        "window of the failure ratio; a breaker opens when it is over one half",
    )
    breaker_cooldown_s: float = setting("SMSGW_BREAKER_COOLDOWN_S", 30.0, _seconds(0.1, 3600), "wait before a probe")
    room_s: float = setting(
        "SMSGW_ROOM_S", 30.0, _seconds(1, 86400), "a provider has no room when its backlog exceeds its rate times this"
    )


@attrs.frozen
class ProcessSettings:
    """Settings that every process has."""

    pod: str = setting(
        "SMSGW_POD", f"{socket.gethostname().split('.')[0]}-{os.getpid()}", _word, "name of this process"
    )
    drain_s: float = setting("SMSGW_DRAIN_S", 10.0, _seconds(0.5, 600), "time to finish calls after SIGTERM")
    health_listen: str = setting(
        "SMSGW_HEALTH_LISTEN", "", str, "health address of dispatcher, coordinator and projector; empty: none"
    )
    log_level: str = setting(
        "SMSGW_LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "lowest level logged"
    )
    log_format: str = setting("SMSGW_LOG_FORMAT", "json", _one_of("json", "text"), "json for machines, text for people")
    otlp_endpoint: str = setting("SMSGW_OTLP_ENDPOINT", "", str, "OTLP/gRPC endpoint for traces; empty: no traces")
    trace_ratio: float = setting("SMSGW_TRACE_RATIO", 1.0, _number(0, 1, float), "fraction of traces that are recorded")
    data_folder: str = setting("SMSGW_VAR", "var", str, "where `make up` keeps its data")


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
