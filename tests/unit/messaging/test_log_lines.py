"""What a line of the log holds."""

import json
import re
from collections.abc import Iterator

import pytest
import structlog

from messaging import telemetry
from messaging.config import Process


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_is_json_with_service_pod_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Process(pod="g-1"), "gateway")
    structlog.get_logger("a").warning("it happened", code="OK", odd=set)
    line = json.loads(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line.pop("timestamp"))
    assert line == {
        "event": "it happened",
        "code": "OK",
        "odd": "<class 'set'>",
        "service": "gateway",
        "pod": "g-1",
        "level": "warning",
    }


def test_an_exception_stands_in_its_line_and_below_the_level_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Process(pod="g-1"), "gateway")
    log = structlog.get_logger("b")
    log.debug("too fine")
    log.error("failed", exc_info=ValueError("broken"))
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]
    assert "exc_info" not in json.loads(line)
