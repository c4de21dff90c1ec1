"""Every relative link in a Markdown file leads to a file that exists, and to a heading that it has."""

import pathlib
import re
import unicodedata
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[3]
FOLDERS = ("docs", "deploy", "examples")
MADE = {"node_modules", "target", "gen", ".venv", "dist"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)(```+).*?^\1\2", re.DOTALL | re.MULTILINE)


def pages() -> list[pathlib.Path]:
    found = [path for folder in FOLDERS for path in ROOT.joinpath(folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *(path for path in found if not MADE & set(path.parts))])


def prose(text: str) -> str:
    return FENCE.sub("", text)


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading: letters, digits, hyphens and underscores, in lower case."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    kept = (char for char in text if char in " -_" or unicodedata.category(char)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def anchors(text: str) -> set[str]:
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.*?)#*$", prose(text), re.MULTILINE):
        name = slug(heading)
        found[name] = found.get(name, -1) + 1
        if found[name]:
            found[f"{name}-{found[name]}"] = 0
    return set(found)


def broken(page: pathlib.Path, text: str) -> Iterator[str]:
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(text))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if path and not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and anchor not in anchors(target.read_text() if path else text):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page: pathlib.Path) -> None:
    assert list(broken(page, page.read_text())) == []


def test_every_page_of_the_documents_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    pages_of_docs = {page for page in pages() if page.is_relative_to(ROOT / "docs")}
    decisions = {page for page in pages_of_docs if page.parent.name == "adr" and page.name != "README.md"}
    assert pages_of_docs - decisions - {index} <= linked


def test_every_decision_record_is_in_its_index() -> None:
    index = ROOT / "docs" / "adr" / "README.md"
    assert set(LINK.findall(index.read_text())) >= {page.name for page in index.parent.glob("0*.md")}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("# One two\n[a](#one-two)", []),
        ("# One\n## One\n[a](#one-1)", []),
        ("# `smsctl` & what's new?\n[a](#smsctl--whats-new)", []),
        ("# One\n[a](#two)", ["#two: there is no such heading"]),
        ("[a](nowhere.md)", ["nowhere.md: there is no such file"]),
        ("```sh\n# no heading\n[a](nowhere.md)\n```\n[b](#no-heading)", ["#no-heading: there is no such heading"]),
        ("[a](https://example.com/nowhere) `[b](nowhere.md)`", []),
    ],
)
def test_a_broken_link_is_found(text: str, faults: list[str]) -> None:
    assert list(broken(ROOT / "page.md", text)) == faults
