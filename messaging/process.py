"""How every process begins and ends: settings, logs, one sentence for what an operator must mend."""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

import structlog

from messaging import telemetry
from messaging.config import Settings, read_settings
from messaging.errors import ConfigError, SetupError, Unavailable
from messaging.providers_file import Provider, read_providers

_log = structlog.get_logger(__name__)

EXIT_SETUP, EXIT_UNAVAILABLE = 78, 69
"""sysexits' EX_CONFIG and EX_UNAVAILABLE."""


def read_all() -> tuple[Settings, tuple[Provider, ...]]:
    """Read environment and providers file; raises one ConfigError with the faults of both."""
    faults: list[tuple[str, str]] = []
    try:
        settings = read_settings(os.environ)
    except ConfigError as exc:
        faults += exc.faults
        settings = None
    path = settings.servers.providers_file if settings else os.environ.get("SMSGW_PROVIDERS_FILE", "providers.toml")
    try:
        providers = read_providers(path)
    except ConfigError as exc:
        faults += exc.faults
        providers = ()
    if faults or settings is None:
        raise ConfigError(faults)
    return settings, providers


def run_process(service: str, work: Callable[[Settings, Sequence[Provider]], Awaitable[None]]) -> int:
    """Run one process to its end; gives its exit code."""
    try:
        settings, providers = read_all()
    except ConfigError as exc:
        sys.stderr.write(f"{service} cannot start; these settings are wrong:\n{exc}\n")
        return EXIT_SETUP
    telemetry.configure_logging(settings.process, service)

    async def main() -> None:
        await work(settings, providers)

    _spare_collections()
    try:
        asyncio.run(main())
    except SetupError as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_SETUP
    except Unavailable as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_UNAVAILABLE
    return 0


def _spare_collections() -> None:
    """Collect cyclic garbage rarely, and never look again at what was loaded: at most some 50,000 objects wait longer.

    By Python's own numbers a busy gateway spends a fifth of its time on looking for cycles, of which it makes none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
