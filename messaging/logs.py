"""Log lines, as JSON for machines or as text for people.

They never hold a text, a whole phone number or a key: callers pass identifiers, providers, reasons and durations.
"""

import asyncio
import atexit
import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

import attrs
import structlog

from messaging.config import Process


def configure_logging(process: Process, service: str) -> None:
    """Send every log line to standard error, as JSON or as text."""
    level = logging.getLevelNamesMapping()[process.log_level.upper()]
    last = structlog.processors.JSONRenderer(_json) if process.log_format == "json" else structlog.dev.ConsoleRenderer()
    lines = _Lines(sys.stderr)
    atexit.register(lines.write_out)
    structlog.configure(
        processors=[_Facts(service, process.pod), last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # nats-py logs whole tracebacks of each lost connection; the connection's own callbacks say it in one line.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    # asyncio's word on every TLS connection that the other side closes.
    logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())


class _Lines:
    """Writes the lines of one turn of the event loop together: a write for each costs a call as much as its checks.

    What is a warning or worse, or comes from where no loop runs, is written at once, after all that came before it.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: list[str] = []

    def info(self, line: str) -> None:
        """Write at the loop's next turn."""
        self._waiting.append(line)
        if len(self._waiting) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.write_out)
        except RuntimeError:
            self.write_out()

    debug = info

    def warning(self, line: str) -> None:
        """Write at once."""
        self._waiting.append(line)
        self.write_out()

    error = critical = exception = warning

    def write_out(self) -> None:
        """Write whatever waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._out.write("\n".join(waiting) + "\n")
            self._out.flush()


@attrs.frozen
class _Facts:
    """What every line tells besides its event: one step instead of structlog's four, which cost 10 µs a line."""

    service: str
    pod: str

    def __call__(self, _logger: object, level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if "exc_info" in line:
            line = structlog.processors.format_exc_info(None, level, line)
        line["service"] = self.service
        line["pod"] = self.pod
        line["level"] = level
        line["timestamp"] = f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z"
        return line


_encode = json.JSONEncoder(default=repr).encode


def _json(line: Mapping[str, object], **_kept: object) -> str:
    """Write a log line; json.dumps makes a new encoder for every line that has a default."""
    return _encode(line)
