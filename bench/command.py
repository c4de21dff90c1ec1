"""The command line of every benchmark: repetitions, sizes, and where the JSON goes."""

import argparse
import asyncio
import json
import pathlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from bench import tables
from bench.figure import Result


@attrs.frozen
class Bench:
    """One benchmark. `sizes` are its parameters in the normal form; `short` (for CI) and `full` override some."""

    name: str
    run: Callable[..., Coroutine[Any, Any, Result]]
    sizes: dict[str, Any]
    short: dict[str, Any]
    full: dict[str, Any] = attrs.Factory(dict)

    def setting(self, form: str) -> dict[str, Any]:
        """Return the parameters of a form: normal, short or full."""
        return {**self.sizes, **{"short": self.short, "full": self.full}.get(form, {})}


def main(bench: Bench) -> None:
    """Run one benchmark from the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{bench.name}")
    parser.add_argument("--json", default="", metavar="FILE", help="where the JSON goes, - for standard output")
    parser.add_argument("--form", choices=("short", "normal", "full"), default="normal")
    for name, value in bench.sizes.items():
        kind: Callable[[str], Any] = _numbers if isinstance(value, list) else type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"default: {value}")
    options = vars(parser.parse_args())
    setting = bench.setting(options["form"])
    setting |= {name: options[name] for name in bench.sizes if options[name] is not None}
    result = asyncio.run(bench.run(**setting))
    text = json.dumps(result.to_json(), indent=1)
    if options["json"] == "-":
        print(text)
    elif options["json"]:
        pathlib.Path(options["json"]).write_text(text + "\n")
    if options["json"] != "-":
        print(f"{result.title}\n\n{tables.figures(result)}")
    problems = result.problems()
    sys.exit("\n".join(problems) if problems else 0)


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]
