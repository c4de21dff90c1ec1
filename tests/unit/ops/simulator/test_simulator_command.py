import ast
import sys
from pathlib import Path

import pytest

import ops.simulator
from ops.simulator.__main__ import main


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("provider", ["p1", ":1", "p1:", "p1:x", "p1:65536", "p1:-1"])
def test_a_provider_has_a_name_and_a_port(provider: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{provider!r} is not NAME:PORT" in refusal(["--provider", provider], capsys)


def test_a_provider_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--provider" in refusal([], capsys)


def test_a_name_stands_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a name is given twice" in refusal(["--provider", "p1:0", "--provider", "p1:0"], capsys)


def test_the_key_variable_has_to_be_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIM_KEY", raising=False)
    assert "SIM_KEY is not set" in refusal(["--provider", "p1:0", "--api-key-env", "SIM_KEY"], capsys)


def test_a_latency_is_checked_before_anything_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert "latency_s: -1.0" in refusal(["--provider", "p1:0", "--latency=-1"], capsys)


def test_the_simulator_imports_nothing_but_the_standard_library_so_that_it_starts_at_once() -> None:
    for path in Path(ops.simulator.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.startswith("ops.simulator.") or name.partition(".")[0] in sys.stdlib_module_names, path
