"""The REST endpoints through a real Envoy with the manifests' configuration, called as curl would."""

import contextlib
import datetime as dt
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from rig import Rig, running

from ops.embedded.child import free_port

REST = pathlib.Path(__file__).parents[2] / "deploy/k8s/components/rest"
ENVOY = pathlib.Path(sys.executable).parent / "envoy"
UNARY_S = 5
"""The time-out of all routes except the watch in this test, instead of 15 s."""


@pytest.fixture(scope="module")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    async with running(open_folder / "envoy", providers=("p1", "p2")) as one:
        yield one


@pytest.fixture(scope="module")
def envoy(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where Envoy listens; only addresses and one time-out of its configuration are changed."""
    folder = tmp_path_factory.mktemp("envoy")
    port = free_port()
    host, _, gateway = rig.system.gateways[0].rpartition(":")
    config = (REST / "envoy.yaml").read_text()
    for written, here in (
        ("/etc/envoy/api.binpb", str(REST / "api.binpb")),
        ("address: gateway-headless, port_value: 50051", f"address: {host}, port_value: {gateway}"),
        ("0.0.0.0, port_value: 8080", f"127.0.0.1, port_value: {port}"),
        ("port_value: 9901", f"port_value: {free_port()}"),
        (" timeout: 15s", f" timeout: {UNARY_S}s"),
    ):
        assert config.count(written) == 1, written
        config = config.replace(written, here)
    (folder / "envoy.yaml").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ENVOY, "-c", folder / "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id"], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 60
        while call(f"http://127.0.0.1:{port}/healthz")[0] != 200:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def call(url: str, document: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Return status and JSON, as `curl URL [-d DOCUMENT]` would show them."""
    data = json.dumps(document).encode() if document is not None else None
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        told = error.read()
        with contextlib.suppress(ValueError):
            return error.code, json.loads(told or b"{}")
        return error.code, {"text": told.decode()}
    except OSError:
        return 0, {}


def test_message_is_sent_and_its_status_is_read(envoy: str) -> None:
    order = {"recipient": "+233201234567", "body": "Hello", "requestId": "order-17"}
    code, accepted = call(f"{envoy}/v1/messages", order)
    assert code == 200, accepted
    code, again = call(f"{envoy}/v1/messages", order)
    assert (code, again["messageId"], again["replayed"]) == (200, accepted["messageId"], True)
    end = time.monotonic() + 60
    while (story := call(f"{envoy}/v1/messages/{accepted['messageId']}"))[1]["status"]["state"] != "MESSAGE_STATE_SENT":
        assert time.monotonic() < end, story
        time.sleep(0.2)
    assert story[0] == 200


def test_watch_lasts_longer_than_the_time_out_of_other_calls_and_ends_with_its_message(envoy: str) -> None:
    began = time.monotonic()
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=UNARY_S + 3)
    order = {"recipient": "+233201234567", "body": "Later", "scheduleTime": due.isoformat()}
    code, accepted = call(f"{envoy}/v1/messages", order)
    assert code == 200, accepted
    code, told = call(f"{envoy}/v1/messages/{accepted['messageId']}:watch")
    assert code == 200, told
    assert time.monotonic() > began + UNARY_S + 2
    assert [one["status"]["state"] for one in told][-1] == "MESSAGE_STATE_SENT"
    assert len(told) > 1


def test_errors_become_http_statuses_with_every_detail(envoy: str) -> None:
    code, told = call(f"{envoy}/v1/messages", {"recipient": "12", "body": ""})
    assert code == 400
    fields = [one["field"] for detail in told["details"] for one in detail.get("fieldViolations", [])]
    assert {"recipient", "body"} <= set(fields)
    found = call(f"{envoy}/v1/messages/0190c2b4-1f3a-7c11-8e2d-5b8f1c3a9d70")
    assert found[0] == 404, found
    assert call(f"{envoy}/v1/nothing")[0] in {403, 404}
