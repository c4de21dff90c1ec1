"""Log lines, as JSON for machines or as text for people. Each is one line, whatever it contains.

They never contain a message's text, a whole phone number or a key: callers pass only identifiers, providers, reasons
and durations.
"""

import asyncio
import atexit
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from messaging.printable import printable
from messaging.runtime.config import ProcessSettings

_Render = Callable[[structlog.typing.EventDict], str]


def configure_logging(process: ProcessSettings, service: str, out: TextIO | None = None) -> None:
    """Send every log line to `out`, by default standard error, as JSON or as text."""
    level = logging.getLevelNamesMapping()[process.log_level.upper()]
    lines = _Lines(out or sys.stderr, _json if process.log_format == "json" else _people(), service, process.pod)
    atexit.register(lines.write_out)
    structlog.configure(
        processors=[_stamp],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_OfLibraries(lines)])
    logging.captureWarnings(capture=True)
    _tell_what_nobody_caught(lines)
    # nats-py logs a whole traceback for each lost connection; our own callbacks log it in one line.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    # asyncio logs this for every TLS connection that the peer closes.
    logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())


class _OfLibraries(logging.Handler):
    """Writes the lines of libraries as ours are: some contain what a caller or a provider sent."""

    def __init__(self, lines: "_Lines") -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line at once; one whose arguments do not fit is written without them."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError):
            said = str(record.msg)
        line = {"event": said, "logger": record.name, "level": record.levelname.lower()}
        trace = {"exc_info": record.exc_info} if record.exc_info else {}
        self._lines.warning(**line, **trace, timestamp=record.created)


def _tell_what_nobody_caught(lines: "_Lines") -> None:
    """Write exceptions that end the process or a thread, or that nobody can catch, as lines too."""

    def tell(event: str, exc: BaseException | None) -> None:
        lines.error(event=event, level="error", timestamp=time.time(), exc_info=exc)

    def at_the_end(kind: type[BaseException], exc: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, exc, trace)
        else:
            tell("this process fails", exc)

    sys.excepthook = at_the_end
    threading.excepthook = lambda args: tell("a thread fails", args.exc_value)
    sys.unraisablehook = lambda args: tell(args.err_msg or "an exception that nobody can catch", args.exc_value)


def _stamp(_logger: object, level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    line["level"] = level
    line["timestamp"] = time.time()
    return line


class _Lines:
    """Renders and writes all lines of one turn of the event loop together.

    Rendering and writing a line during a call would take as long as validating a message. Warnings and errors, and
    lines from outside an event loop, are written at once, after all earlier lines.
    """

    def __init__(self, out: TextIO, render: _Render, service: str, pod: str) -> None:
        self._out = out
        self._render = render
        self._origin = {"service": service, "pod": pod}
        self._waiting: list[structlog.typing.EventDict] = []

    def info(self, **line: Any) -> None:
        """Write in the event loop's next turn."""
        self._waiting.append(line)
        if len(self._waiting) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.write_out)
        except RuntimeError:
            self.write_out()

    debug = info

    def warning(self, **line: Any) -> None:
        """Write at once."""
        self._waiting.append(line)
        self.write_out()

    error = critical = exception = warning

    def write_out(self) -> None:
        """Write all waiting lines."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._out.write("".join(f"{self._text(line)}\n" for line in waiting))
            self._out.flush()

    def _text(self, line: structlog.typing.EventDict) -> str:
        stamp = datetime.fromtimestamp(line["timestamp"], UTC).replace(tzinfo=None)
        line = {**line, **self._origin, "timestamp": f"{stamp.isoformat(timespec='microseconds')}Z"}
        if "exc_info" in line:
            line = structlog.processors.format_exc_info(None, line["level"], line)
        return self._render(line)


_encode = json.JSONEncoder(default=repr).encode


def _json(line: structlog.typing.EventDict) -> str:
    return _encode(line).replace("\x7f", "\\u007f")  # the one control character that JSON leaves


def _people() -> _Render:
    console = structlog.dev.ConsoleRenderer()

    def render(line: structlog.typing.EventDict) -> str:
        trace = line.pop("exception", "")
        safe = {printable(str(key)): printable(str(value)) for key, value in line.items()}
        return "\n".join((str(console(None, safe["level"], safe)), *map(_indented, trace.splitlines())))

    return render


def _indented(line: str) -> str:
    return f"    {printable(line)}"
