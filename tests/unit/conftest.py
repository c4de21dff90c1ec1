"""The unit tests use no network, no sleep, and only the clock that they are given."""

import gc
import os
import socket
import time
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

hypothesis.settings.register_profile("unit", deadline=None, max_examples=10, derandomize=True, database=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=300, derandomize=True, database=None)
hypothesis.settings.register_profile("random", deadline=None, max_examples=1000, database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


def _drop(*_: object) -> structlog.typing.EventDict:
    raise structlog.DropEvent


structlog.configure(processors=[_drop])  # no test reads the lines, and writing them takes most of the time


gc.set_threshold(50_000, 20, 100)  # otherwise a tenth of the time goes to garbage collection


def pytest_collection_finish() -> None:
    """Never look again at what was loaded."""
    gc.freeze()


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("a unit test neither sleeps nor opens a connection")


@pytest.fixture(autouse=True, scope="module")
def _no_world() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket.socket, "bind", _refuse)
        patch.setattr(time, "sleep", _refuse)
        yield
