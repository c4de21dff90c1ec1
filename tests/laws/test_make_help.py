"""`make help` lists every target that a person may ask for."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


def test_help_lists_every_public_target_with_a_line_of_its_own() -> None:
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = set(phony[1].replace("\\", " ").split())
    command = ["make", "--no-print-directory", "help"]  # also within another make
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    listed = [line.split(maxsplit=1) for line in told.splitlines()]
    assert {name for name, _ in listed} == targets
    assert len(listed) == len(targets)
