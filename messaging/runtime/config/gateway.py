"""Settings of the gateway."""

import attrs

from messaging.runtime.config.setting import address, flag, number, region, seconds, setting, whole
from messaging.runtime.secret import Secret


@attrs.frozen
class GatewaySettings:
    """The gateway's gRPC API and what it accepts."""

    listen: str = setting("SMSGW_LISTEN", "127.0.0.1:50051", address, "address of the gRPC server")
    default_region: str = setting(
        "SMSGW_DEFAULT_REGION", "", region, "region of national numbers, such as GH; empty: only E.164 is accepted"
    )
    strict_numbers: bool = setting(
        "SMSGW_STRICT_NUMBERS", default=False, read=flag, meaning="refuse numbers that are possible but not assigned"
    )
    id_key: Secret = setting(
        "SMSGW_ID_KEY", Secret("sms-gateway"), Secret, "key of the hash from request_id to message id; never change it"
    )
    window_s: float = setting(
        "SMSGW_IDEMPOTENCY_WINDOW_S", 86400.0, seconds(60, 604800), "how long a request_id is remembered"
    )
    unkeyed_ttl_s: float = setting(
        "SMSGW_UNKEYED_TTL_S",
        7200.0,
        seconds(60, 604800),
        "how long the stream keeps an accepted message without request_id or schedule_time",
    )
    max_backlog: int = setting(
        "SMSGW_MAX_BACKLOG", 1_000_000, whole(1, 10**9), "limit on accepted, unsent messages of all providers together"
    )
    max_backlog_per_provider: int = setting(
        "SMSGW_MAX_BACKLOG_PER_PROVIDER", 250_000, whole(1, 10**9), "the same for one provider"
    )
    storage_fill: float = setting(
        "SMSGW_STORAGE_FILL",
        0.8,
        number(0.05, 1.0, float),
        "fraction of the account's storage at which the stream is full",
    )
    storage_max_bytes: int = setting(
        "SMSGW_STORAGE_MAX_BYTES",
        0,
        whole(0, 2**60),
        "what the stream may store, in all copies together, if its account has no limit (max_file); 0: as the server",
    )
    publish_in_flight: int = setting(
        "SMSGW_PUBLISH_IN_FLIGHT", 256, whole(1, 4096), "maximum of unacknowledged publishes of one gateway process"
    )
    publish_timeout_s: float = setting(
        "SMSGW_PUBLISH_TIMEOUT_S", 2.5, seconds(0.1, 30), "wait for one acknowledgement before publishing again"
    )
    accept_budget_s: float = setting(
        "SMSGW_ACCEPT_BUDGET_S", 8.0, seconds(0.2, 60), "how long accepting one message may take before UNAVAILABLE"
    )
    batch_read_ahead: int = setting(
        "SMSGW_BATCH_READ_AHEAD", 4, whole(1, 64), "chunks of one BatchSend stream that are processed at once"
    )
    request_max_bytes: int = setting(
        "SMSGW_REQUEST_MAX_BYTES", 262_144, whole(65_536, 4_194_304), "size limit of a request other than BatchSend's"
    )
    chunk_max_bytes: int = setting(
        "SMSGW_CHUNK_MAX_BYTES", 4_194_304, whole(262_144, 67_108_864), "size limit of one chunk of BatchSend"
    )
    chunks_at_work: int = setting(
        "SMSGW_CHUNKS_AT_WORK", 16, whole(1, 1024), "chunks of all BatchSend streams that are processed at once"
    )
    chunk_bytes_at_work: int = setting(
        "SMSGW_CHUNK_BYTES_AT_WORK", 33_554_432, whole(1_048_576, 2**34), "the same, as bytes of chunks"
    )
    max_calls: int = setting(
        "SMSGW_MAX_CALLS", 2000, whole(1, 1_000_000), "unary calls under way in one process; more are UNAVAILABLE"
    )
    max_batches: int = setting("SMSGW_MAX_BATCHES", 32, whole(1, 100_000), "the same for BatchSend streams")
    max_watches: int = setting("SMSGW_MAX_WATCHES", 10_000, whole(1, 1_000_000), "the same for WatchStatus streams")
    stream_s: float = setting(
        "SMSGW_STREAM_S", 14_400.0, seconds(1, 604_800), "how long a BatchSend or WatchStatus call may be open"
    )
    stream_idle_s: float = setting(
        "SMSGW_STREAM_IDLE_S", 300.0, seconds(1, 604_800), "how long a BatchSend stream may send nothing"
    )
    max_connections: int = setting(
        "SMSGW_MAX_CONNECTIONS", 4000, whole(1, 1_000_000), "connections to one process; more are closed"
    )
    streams_per_connection: int = setting(
        "SMSGW_STREAMS_PER_CONNECTION", 1000, whole(1, 1_000_000), "calls under way on one connection; more wait"
    )
    connection_age_s: float = setting(
        "SMSGW_CONNECTION_AGE_S", 3600.0, seconds(0, 86400), "age at which a caller is asked to reconnect; 0: never"
    )
    connection_idle_s: float = setting(
        "SMSGW_CONNECTION_IDLE_S", 900.0, seconds(0, 86400), "time without calls after which it is; 0: never"
    )
    ping_interval_s: float = setting(
        "SMSGW_PING_INTERVAL_S", 10.0, seconds(1, 3600), "shortest time between a caller's keep-alive pings"
    )
