"""How every process begins and ends: settings, logs, one sentence for what an operator must mend."""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Container, Sequence

import structlog

from messaging.errors import ConfigError, SetupError, Unavailable
from messaging.runtime.config import Settings, read_settings
from messaging.runtime.logs import configure_logging
from messaging.runtime.providers_file import Provider, read_providers

_log = structlog.get_logger(__name__)

EXIT_SETUP, EXIT_UNAVAILABLE = 78, 69
"""sysexits' EX_CONFIG and EX_UNAVAILABLE."""

_LEFT_S = 1.0


def read_all(keys_of: Container[str] = ()) -> tuple[Settings, tuple[Provider, ...]]:
    """Read environment and providers file, with the keys of some; raises one ConfigError with the faults of both."""
    faults: list[tuple[str, str]] = []
    try:
        settings = read_settings(os.environ)
    except ConfigError as exc:
        faults += exc.faults
        settings = None
    path = settings.servers.providers_file if settings else os.environ.get("SMSGW_PROVIDERS_FILE", "providers.toml")
    try:
        providers = read_providers(path, keys_of=keys_of)
    except ConfigError as exc:
        faults += exc.faults
        providers = ()
    if faults or settings is None:
        raise ConfigError(faults)
    return settings, providers


def run_process(
    service: str, work: Callable[[Settings, Sequence[Provider]], Awaitable[None]], *, keys_of: Container[str] = ()
) -> int:
    """Run one process, which gets the keys of the providers that it calls, to its end; gives its exit code."""
    try:
        settings, providers = read_all(keys_of)
    except ConfigError as exc:
        sys.stderr.write(f"{service} cannot start; these settings are wrong:\n{exc}\n")
        return EXIT_SETUP
    configure_logging(settings.process, service)

    _spare_collections()
    return run_to_end(lambda: work(settings, providers))


def run_to_end(work: Callable[[], Awaitable[None]]) -> int:
    """Run `work`, then end, whatever task of a library will not: gives the exit code.

    `asyncio.run` waits for every task that it cancels. One that swallows that (nats-py's, amid a reconnection) would
    keep a process that was told to stop; it has nothing left to lose.
    """

    async def main() -> int:
        code = await _code_of(work())
        if left := await _cancel_others():
            _log.warning("tasks that would not end", tasks=left)  # a warning is written at once, and all before it
            os._exit(code)
        return code

    return asyncio.run(main())


async def _code_of(work: Awaitable[None]) -> int:
    try:
        await work
    except SetupError as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_SETUP
    except Unavailable as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_UNAVAILABLE
    return 0


async def _cancel_others() -> list[str]:
    """Cancel every other task; gives the names of those that do not end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    _, left = await asyncio.wait(others, timeout=_LEFT_S) if others else (set(), set())
    return sorted(task.get_name() for task in left)


def _spare_collections() -> None:
    """Collect cyclic garbage rarely, and never look again at what was loaded: at most some 50,000 objects wait longer.

    By Python's own numbers a busy gateway spends a fifth of its time on looking for cycles, of which it makes none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
