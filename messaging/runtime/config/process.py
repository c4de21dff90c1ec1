"""Settings that every process has."""

import os
import socket

import attrs

from messaging.runtime.config.setting import address, number, one_of, seconds, setting, word


@attrs.frozen
class ProcessSettings:
    """Settings that every process has."""

    pod: str = setting("SMSGW_POD", f"{socket.gethostname().split('.')[0]}-{os.getpid()}", word, "name of this process")
    drain_s: float = setting("SMSGW_DRAIN_S", 10.0, seconds(0.5, 600), "time to finish calls after SIGTERM")
    health_listen: str = setting(
        "SMSGW_HEALTH_LISTEN", "", address, "health address of dispatcher, coordinator and projector; empty: none"
    )
    log_level: str = setting(
        "SMSGW_LOG_LEVEL", "info", one_of("debug", "info", "warning", "error"), "lowest level logged"
    )
    log_format: str = setting("SMSGW_LOG_FORMAT", "json", one_of("json", "text"), "json for machines, text for people")
    otlp_endpoint: str = setting("SMSGW_OTLP_ENDPOINT", "", address, "OTLP/gRPC endpoint for traces; empty: no traces")
    trace_ratio: float = setting("SMSGW_TRACE_RATIO", 1.0, number(0, 1, float), "fraction of traces that are recorded")
    data_folder: str = setting("SMSGW_VAR", "var", str, "where `make up` keeps its data")
