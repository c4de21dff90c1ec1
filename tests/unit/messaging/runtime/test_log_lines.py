"""What a line of the log holds."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest
import structlog

from messaging.runtime.config import ProcessSettings
from messaging.runtime.logs import configure_logging


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def test_a_line_is_json_with_service_pod_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(ProcessSettings(pod="g-1"), "gateway")
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
    configure_logging(ProcessSettings(pod="g-1"), "gateway")
    log = structlog.get_logger("b")
    log.debug("too fine")
    log.error("failed", exc_info=ValueError("broken"))
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]
    assert "exc_info" not in json.loads(line)


def test_lines_of_one_turn_are_written_together_in_order_and_a_warning_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(ProcessSettings(pod="g-1"), "gateway")
    log = structlog.get_logger("c")

    def said() -> list[str]:
        return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]

    async def turns() -> None:
        log.info("one")
        log.info("two")
        assert said() == []
        await asyncio.sleep(0)
        assert said() == ["one", "two"]
        log.info("three")
        log.warning("four")
        assert said() == ["three", "four"]
        log.info("last")

    asyncio.run(turns())
    assert said() == ["last"]
    log.info("without a loop")
    assert said() == ["without a loop"]
