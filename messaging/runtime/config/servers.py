"""Settings of the servers that every process connects to."""

import attrs

from messaging.runtime.config.setting import database, file, number, servers, setting, whole, word
from messaging.runtime.secret import Url


@attrs.frozen
class ServerSettings:
    """Where the servers and the providers file are."""

    nats: Url = setting(
        "SMSGW_NATS_URL", Url("nats://127.0.0.1:4222"), servers, "nats-server; several separated by commas"
    )
    nats_user: str = setting("SMSGW_NATS_USER", "", word, "user name for the stream; empty: as in the URL")
    nats_password_file: str = setting(
        "SMSGW_NATS_PASSWORD_FILE", "", file, "file with that user's password, read again for every connection"
    )
    nats_ca_file: str = setting(
        "SMSGW_NATS_CA_FILE", "", file, "CA certificate of the stream's servers (PEM); if set, TLS is used"
    )
    nats_cert_file: str = setting("SMSGW_NATS_CERT_FILE", "", file, "client certificate for the stream (PEM)")
    nats_key_file: str = setting("SMSGW_NATS_KEY_FILE", "", file, "key of the client certificate (PEM)")
    database: Url = setting(
        "SMSGW_DATABASE_URL", Url("postgresql://smsgw@127.0.0.1:5432/smsgw"), database, "PostgreSQL, for the history"
    )
    providers_file: str = setting("SMSGW_PROVIDERS_FILE", "providers.toml", str, "the providers file (TOML)")
    replicas: int = setting(
        "SMSGW_REPLICAS",
        1,
        whole(1, 5),
        "copies of every stream: 3 in production; `make up` starts as many servers as are needed",
    )
    event_days: float = setting("SMSGW_EVENT_DAYS", 7.0, number(0.01, 365, float), "days that the stream keeps events")
    dead_letter_days: float = setting(
        "SMSGW_DEAD_LETTER_DAYS", 30.0, number(0.01, 3650, float), "days that dead letters are kept"
    )
    accept_max_bytes: int = setting(
        "SMSGW_ACCEPT_MAX_BYTES", -1, whole(-1, 2**50), "size limit of the stream of accepted messages; -1: none"
    )
