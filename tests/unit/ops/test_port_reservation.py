"""One port is told to one process."""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.embedded import port_reservation as claims
from ops.embedded.port_reservation import claim


@pytest.fixture
def book(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "ports"


def test_a_port_is_claimed_once(book: pathlib.Path) -> None:
    assert claim(15_001, book)
    assert not claim(15_001, book)
    assert claim(15_002, book)
    assert not claim(15_001, book)


def test_a_claim_ends_after_its_time(book: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim(15_001, book)
    monkeypatch.setattr(claims, "_KEPT_S", 0.0)
    assert claim(15_001, book)
    assert len(book.read_text().splitlines()) == 1


@pytest.mark.parametrize("scribble", ["no port at all", "15001", "x y\n"])
def test_a_book_that_cannot_be_read_begins_anew(book: pathlib.Path, scribble: str) -> None:
    book.write_text(scribble)
    assert claim(15_001, book)
    assert not claim(15_001, book)


def test_of_many_who_ask_at_once_one_gets_it(book: pathlib.Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for port in range(15_000, 15_050):
            assert sum(pool.map(lambda _, port=port: claim(port, book), range(8))) == 1


def test_a_link_in_its_place_is_not_followed(book: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "precious").write_text("of somebody else")
    book.symlink_to(tmp_path / "precious")
    assert claim(15_001, book)
    assert (tmp_path / "precious").read_text() == "of somebody else"
