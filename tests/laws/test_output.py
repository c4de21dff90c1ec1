"""Everything that commands print goes through one module, which escapes what would do something on a terminal."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
_DOORS = {"output.py", "failure.py", "probe.py"}
"""The module itself; errors, which escape by the same function and must load fast; a word of our own."""

_PRINTS = re.compile(r"click\.s?echo\(|(?<![\w.])print\(|sys\.std(out|err)\.write\(")


def test_commands_print_through_one_module() -> None:
    strays = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("ops/commands", "ops/bulk")
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in _DOORS
        for line in path.read_text().splitlines()
        if _PRINTS.search(line)
    ]
    assert not strays, f"{strays}: call `say`, `print_json`, `print_line` or `table` of ops.commands.output"
