"""The network of a long run: what is cut, what is refused, and that nothing of it remains."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.load.chaos import __main__ as command
from tests.load.chaos.net import namespaces
from tests.load.chaos.net.routes import CUTS
from tests.load.chaos.plan import NET_KINDS

ROOT = pathlib.Path(__file__).parents[2]
NET = ["--net", "--nats-servers", "3", "--strangers"]
TRIAL = """
import itertools
import socket
import time
from tests.load.chaos.net import namespaces
from tests.load.chaos.net.routes import Routes

namespaces.prepare()
numbers = itertools.count(1)
routes = Routes()
places = routes.places

def listener(place):
    def make():
        place.enter()
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((place.host, 7000))
        made.settimeout(1.0)
        return made
    return namespaces.in_own_thread(make)

ends = [listener(place) for place in places]
router = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
router.bind(("", 7000))
router.settimeout(1.0)

def arrives(sender, receiver, address):
    sent = b"%d" % next(numbers)  # another one may come late
    sender.sendto(sent, (address, 7000))
    try:
        while receiver.recv(9) != sent:
            pass
    except TimeoutError:
        return False
    return True

def told():
    pairs = [(0, 1), (1, 0), (0, 2), (1, 2)]
    return [arrives(ends[a], ends[b], places[b].host) for a, b in pairs] + [arrives(ends[0], router, "10.99.0.1")]

end = time.monotonic() + 20  # the links need a moment
while not all(found := told()) and time.monotonic() < end:
    pass
print(found)
with routes.cut([(0, 1)]):
    print(told())
with routes.cut([(0, None)]):
    print(told())
print(told())
"""


def test_cuts_are_symmetric_or_one_way() -> None:
    others = [1, 2]
    assert set(CUTS["split"](0, others)) == {(0, 1), (1, 0), (0, 2), (2, 0)} == set(CUTS["flap"](0, others))
    assert set(CUTS["mute"](0, others)) == {(0, 1), (0, 2)}
    assert set(CUTS["deaf"](0, others)) == {(1, 0), (2, 0)}
    assert CUTS["vanish"](0, others) == [(0, None)]
    assert {*CUTS, "wire"} == set(NET_KINDS)


def test_machine_without_namespaces_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(command.main, NET)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == (
        "Error: --net cannot run here: it makes network namespaces, so it needs root"
    )


def test_network_without_three_servers_is_refused() -> None:
    result = CliRunner().invoke(command.main, ["--net", "--strangers"])
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        "Error: --net needs --nats-servers 3 and --strangers",
    )


@pytest.mark.skipif(bool(namespaces.why_not()), reason="this machine makes no network namespaces")
def test_cut_drops_one_direction_in_silence_and_nothing_of_it_remains() -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    trial = subprocess.run(
        ["unshare", *namespaces.APART, sys.executable, "-c", TRIAL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert trial.stdout.splitlines() == [
        "[True, True, True, True, True]",
        "[False, True, True, True, True]",
        "[False, True, False, True, False]",
        "[True, True, True, True, True]",
    ], trial.stderr
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == links


@pytest.mark.skipif(bool(namespaces.why_not()), reason="this machine makes no network namespaces")
def test_client_of_a_server_that_is_cut_off_stores_again_long_before_the_partition_ends() -> None:
    command = [sys.executable, "-m", "tests.load.chaos.net.pauses", "split", "follower", "20"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 0 < json.loads(told.splitlines()[-1])["pause_s"] < 15
