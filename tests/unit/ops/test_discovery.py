"""The file of a running `up` may be anything; then it counts as absent."""

import json
import pathlib

import pytest

from ops import discovery


@pytest.fixture
def run_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("SMSGW_VAR", str(tmp_path))
    monkeypatch.delenv("SMSGW_LISTEN", raising=False)
    return tmp_path / "run.json"


def test_what_the_environment_does_not_set_is_read_from_the_file(
    run_file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SMSGW_REPLICAS", "1")
    environment = {"SMSGW_LISTEN": "127.0.0.1:7", "SMSGW_REPLICAS": "3"}
    run_file.write_text(json.dumps({"environment": environment, "simulators": {"p1": "http://x"}}))
    assert discovery.environment()["SMSGW_LISTEN"] == "127.0.0.1:7"
    assert discovery.environment()["SMSGW_REPLICAS"] == "1"
    assert discovery.simulators() == {"p1": "http://x"}


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"7",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"environment": [], "simulators": []}',
        b'{"environment": null, "simulators": null}',
        b'{"environment": {"SMSGW_LISTEN": 7}, "simulators": {"p1": 7}}',
        b'{"environment": {"SMSGW_LISTEN": "a\\u0000b"}, "simulators": {"p1": ["x"]}}',
    ],
    ids=lambda contents: contents[:30],
)
def test_odd_file_counts_as_absent(run_file: pathlib.Path, contents: bytes):
    run_file.write_bytes(contents)
    assert "SMSGW_LISTEN" not in discovery.environment()
    assert discovery.simulators() == {}


def test_folder_in_its_place_counts_as_absent(run_file: pathlib.Path):
    run_file.mkdir()
    assert discovery.simulators() == {}
