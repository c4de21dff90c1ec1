"""A port is reserved for one process at a time."""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.embedded import port_reservation
from ops.embedded.port_reservation import reserve


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "ports"


def test_a_port_is_reserved_once(file: pathlib.Path) -> None:
    assert reserve(15_001, file)
    assert not reserve(15_001, file)
    assert reserve(15_002, file)
    assert not reserve(15_001, file)


def test_a_reservation_ends_after_its_time(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reserve(15_001, file)
    monkeypatch.setattr(port_reservation, "_KEPT_S", 0.0)
    assert reserve(15_001, file)
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("scribble", ["no port at all", "15001", "x y\n"])
def test_a_file_that_is_not_well_formed_counts_as_empty(file: pathlib.Path, scribble: str) -> None:
    file.write_text(scribble)
    assert reserve(15_001, file)
    assert not reserve(15_001, file)


def test_of_many_that_ask_at_once_one_gets_the_port(file: pathlib.Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for port in range(15_000, 15_050):
            assert sum(pool.map(lambda _, port=port: reserve(port, file), range(8))) == 1


def test_a_link_in_its_place_is_not_followed(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "precious").write_text("of somebody else")
    file.symlink_to(tmp_path / "precious")
    assert reserve(15_001, file)
    assert (tmp_path / "precious").read_text() == "of somebody else"
