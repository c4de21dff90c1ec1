"""The main function of every process: reads settings, sets up logs, and turns errors into an exit code."""

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Container, Sequence

import structlog

from messaging.errors import ConfigError, SetupError, StoppedEarly, Unavailable
from messaging.printable import printable_lines
from messaging.runtime import stderr
from messaging.runtime.config import ProcessSettings, Settings, read_settings
from messaging.runtime.logs import configure_logging
from messaging.runtime.providers_file import Provider, read_providers

_log = structlog.get_logger(__name__)

EXIT_SETUP, EXIT_UNAVAILABLE = 78, 69
"""sysexits' EX_CONFIG and EX_UNAVAILABLE."""

_LEFT_S = 1.0


def read_all(keys_of: Container[str] | None = ()) -> tuple[Settings, tuple[Provider, ...]]:
    """Read settings and providers file; raises one ConfigError with the faults of both.

    `keys_of` names the providers whose secrets are read, None means all.
    """
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
    service: str,
    work: Callable[[Settings, Sequence[Provider]], Awaitable[None]],
    *,
    keys_of: Container[str] | None = (),
) -> int:
    """Run one process to its end; returns its exit code. `keys_of` is as in `read_all`."""
    try:
        settings, providers = read_all(keys_of)
    except ConfigError as exc:
        _say_wrong_settings(service, exc)
        return EXIT_SETUP
    real, log_with = stderr.take_over()
    configure_logging(settings.process, service, real)
    log_with(_log.warning)
    _collect_rarely()
    return run_to_end(lambda: work(settings, providers))


def _say_wrong_settings(service: str, error: ConfigError) -> None:
    """Say it as a log line, or in plain words to a person at a terminal."""
    sentence = f"{service} cannot start; these settings are wrong:"
    if sys.stderr.isatty() or os.environ.get("SMSGW_LOG_FORMAT") == "text":
        sys.stderr.write(f"{sentence}\n{printable_lines(str(error))}\n")
        return
    configure_logging(ProcessSettings(), service)
    _log.error("cannot start", reason=error.reason, detail=f"{sentence}\n{error}")


def run_to_end(work: Callable[[], Awaitable[None]]) -> int:
    """Run `work`, then end the process even if a library's task does not end; returns the exit code.

    `asyncio.run` waits for every task that it cancels. A task that ignores the cancellation (one of nats-py's, during a
    reconnection) would keep the process alive after it was told to stop, although all its work is done.
    """

    async def main() -> int:
        code = await _code_of(work())
        if left := await _cancel_others():
            _log.warning("tasks that would not end", tasks=left)  # a warning is written at once, with all earlier lines
            os._exit(code)
        return code

    return asyncio.run(main())


async def _code_of(work: Awaitable[None]) -> int:
    try:
        await work
    except StoppedEarly:
        _log.info("stopped before it could begin")
    except SetupError as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_SETUP
    except Unavailable as exc:
        _log.error("cannot start", reason=exc.reason, detail=str(exc))
        return EXIT_UNAVAILABLE
    return 0


async def _cancel_others() -> list[str]:
    """Cancel every other task; returns the names of those that do not end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    _, left = await asyncio.wait(others, timeout=_LEFT_S) if others else (set(), set())
    return sorted(task.get_name() for task in left)


def _collect_rarely() -> None:
    """Collect cyclic garbage rarely, and never among the objects that exist now.

    With Python's defaults, a busy gateway spends a fifth of its time looking for cycles, although it creates none. The
    cost: about 50,000 objects may wait for a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
