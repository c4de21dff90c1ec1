"""The conformance run, tested with small programs in place of the clients."""

import contextlib
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator, Mapping

import pytest

from tools.conformance import clients
from tools.conformance.__main__ import Finding, prepare, run_clients
from tools.conformance.clients import ADDRESS, Client, build, missing_tool
from tools.conformance.outage import outage

EXPECTED = {"sent": "*", "count": 2}


@pytest.fixture(autouse=True)
def examples(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(clients, "ROOT", tmp_path)
    monkeypatch.setattr(clients, "EXAMPLES", tmp_path / "examples")
    (tmp_path / ".gitignore").write_text("gen/\n")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path / "examples"


def client(
    examples: pathlib.Path,
    name: str,
    program: str,
    *,
    build: str = "printf x >> gen/builds",
    needs: Mapping[str, tuple[int, ...]] | None = None,
) -> Client:
    (examples / name / "gen").mkdir(parents=True)
    (examples / name / "client.py").write_text(program)
    lines = f"```sh\n{build}\npython3 client.py {ADDRESS}\n```\n"
    (examples / name / "README.md").write_text(f"# One\n\n{lines}")
    return Client(name, needs or {}, "gen")


def says(**document: object) -> str:
    return f"print({json.dumps(document)!r})"


def results(*those: Client) -> list[tuple[str, str]]:
    return [(one.client, one.result) for one in run_clients(those, ["a:1", "b:2"], EXPECTED)]


def test_clients_with_the_same_results_agree(examples: pathlib.Path) -> None:
    one = client(examples, "one", says(client="one", sent="words", count=2))
    other = client(examples, "other", says(client="other", sent="words", count=2.0))
    assert results(one, other) == [("one", "same"), ("other", "same")]


def test_different_count_is_reported_for_the_client_that_has_it(examples: pathlib.Path) -> None:
    doctored = client(examples, "doctored", says(sent="words", count=3))
    good = client(examples, "good", says(sent="words", count=2))
    first, second = run_clients([doctored, good], [], EXPECTED)
    assert (first.result, first.details, first.bad) == ("different", ["count: expected 2, saw 3"], True)
    assert (second.result, second.bad) == ("same", False)


def test_free_text_must_be_the_same_for_all_clients(examples: pathlib.Path) -> None:
    one = client(examples, "one", says(sent="words", count=2))
    other = client(examples, "other", says(sent="other words", count=2))
    assert results(one, other) == [("one", "same"), ("other", "different")]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit('no answer')", "no answer"),
        ("raise SystemExit('\\n'.join(map(str, range(100))))", "7\n…\n80"),
        ("print('hello')", "not a JSON document"),
        ("", "not a JSON document"),
    ],
)
def test_client_that_prints_no_result_has_failed(examples: pathlib.Path, program: str, told: str) -> None:
    [found] = run_clients([client(examples, "one", program)], [], EXPECTED)
    assert (found.result, found.bad) == ("failed", True)
    assert told in found.details[0]


def test_client_that_cannot_be_built_has_failed_and_is_built_again_next_time(examples: pathlib.Path) -> None:
    one = client(examples, "one", says(sent="words", count=2), build="echo no such plugin; false; true")
    for _ in range(2):
        [found] = run_clients([one], [], EXPECTED)
        assert found.result == "failed"
        assert "no such plugin" in found.details[0]


def test_client_that_does_not_end_has_failed(examples: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_RUN_S", 0.1)
    [found] = run_clients([client(examples, "one", "import time; time.sleep(30)")], [], EXPECTED)
    assert found.result == "failed"
    assert "did not end within 0.1 s" in found.details[0]


def test_client_without_its_tool_chain_is_skipped_with_what_it_needs(examples: pathlib.Path) -> None:
    absent = client(examples, "absent", "", needs={"no-such-compiler": (1, 2)})
    old = client(examples, "old", "", needs={"git": (999,)})
    first, second = run_clients([absent, old], [], EXPECTED)
    assert first == Finding("absent", "skipped", ["needs no-such-compiler 1.2, which is not installed"])
    assert (second.result, second.bad) == ("skipped", False)
    assert second.details[0].startswith("needs git 999, and 2.")
    assert missing_tool(client(examples, "new", "", needs={"git": (1,)})) == ""


def test_client_is_built_again_only_when_its_files_have_changed(examples: pathlib.Path) -> None:
    one = client(examples, "one", "")
    assert build(one)
    assert not build(one)
    (examples / "one" / "client.py").write_text("# changed")
    assert build(one)
    (examples.parent / "proto").mkdir()
    (examples.parent / "proto" / "a.proto").write_text("// new")
    assert build(one)
    assert not build(one)
    assert (examples / "one" / "gen" / "builds").read_text() == "xxx"


def test_readme_whose_last_command_takes_no_address_is_refused(examples: pathlib.Path) -> None:
    one = client(examples, "one", "")
    (examples / "one" / "README.md").write_text("```sh\necho '{}'\n```\n")
    [found] = run_clients([one], [], EXPECTED)
    assert (found.result, found.details) == ("failed", [f"the last command of its README does not end with {ADDRESS}"])


def test_the_addresses_reach_the_client(examples: pathlib.Path) -> None:
    program = "import sys, json; print(json.dumps({'sent': ' '.join(sys.argv[1:]), 'count': 2}))"
    [found] = run_clients([client(examples, "one", program)], ["a:1", "b:2"], {"sent": "a:1 b:2", "count": 2})
    assert found.result == "same"


def test_build_runs_nothing_and_a_run_builds_nothing_again(examples: pathlib.Path) -> None:
    one = client(examples, "one", "raise SystemExit('it ran')")
    bad = client(examples, "bad", "", build="echo no such plugin; false")
    absent = client(examples, "absent", "", needs={"no-such-compiler": (1, 2)})
    assert [prepare(each).result for each in (one, bad, absent)] == ["built", "failed", "skipped"]
    [found] = run_clients([one], [], EXPECTED)
    assert "it ran" in found.details[0]
    assert (examples / "one" / "gen" / "builds").read_text() == "x"


def test_callers_environment_overrides_the_defaults_for_cheap_builds(
    examples: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAVEN_OPTS", "mine")
    monkeypatch.delenv("CARGO_INCREMENTAL", raising=False)
    build(client(examples, "one", "", build="echo $MAVEN_OPTS $CARGO_INCREMENTAL > gen/seen"))
    assert (examples / "one" / "gen" / "seen").read_text() == "mine 0\n"


def test_clients_are_built_before_the_outage_in_which_they_run(examples: pathlib.Path) -> None:
    @contextlib.contextmanager
    def away() -> Iterator[None]:
        (examples / "away").touch()
        yield
        (examples / "away").unlink()

    seen = "import json, os; print(json.dumps({'sent': 'words', 'count': 2 * os.path.exists('../away')}))"
    both = [client(examples, name, seen, build="test ! -e ../away") for name in ("one", "other")]
    assert [one.result for one in run_clients(both, [], EXPECTED, away)] == ["same", "same"]


class Server:
    def __init__(self) -> None:
        self.did: list[str] = []

    def kill(self) -> None:
        self.did.append("kill")

    def start(self) -> None:
        self.did.append("start")


def test_stream_is_restarted_after_a_gateway_has_reported_it_as_unavailable(tmp_path: pathlib.Path) -> None:
    server, log = Server(), tmp_path / "gateway.log"
    log.write_text('{"code": "UNAVAILABLE"}\n')  # from an earlier outage
    with outage(server, log):
        time.sleep(0.2)
        assert server.did == ["kill"]
        with log.open("a") as more:
            more.write('{"code": "OK"}\n{"code": "UNAVAILABLE"}\n')
        end = time.monotonic() + 20
        while server.did != ["kill", "start"]:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert server.did == ["kill", "start"]


def test_stream_is_restarted_even_when_no_gateway_reported_it(tmp_path: pathlib.Path) -> None:
    server, log = Server(), tmp_path / "gateway.log"
    log.touch()
    with pytest.raises(RuntimeError), outage(server, log):
        raise RuntimeError
    assert server.did == ["kill", "start"]
