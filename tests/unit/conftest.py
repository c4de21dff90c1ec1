"""The unit tier asks nothing of the world: no network, no sleep, no clock but the one it is given."""

import socket
import time

import hypothesis
import pytest

hypothesis.settings.register_profile("unit", deadline=None, max_examples=40, derandomize=True, database=None)
hypothesis.settings.load_profile("unit")


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("a unit test neither sleeps nor opens a connection")


@pytest.fixture(autouse=True)
def _no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _refuse)
    monkeypatch.setattr(socket.socket, "bind", _refuse)
    monkeypatch.setattr(time, "sleep", _refuse)
