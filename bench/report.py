"""Writes docs/performance.md and its plots from a run's JSON: `python -m bench.report`."""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence

import attrs

from bench import plots, tables
from bench.figure import Result

BEFORE = pathlib.Path("bench/before.json")
FOLDER = pathlib.Path("docs/performance")

_HEAD = """# Performance

Made by `make bench`; do not edit. What stands here are ratios of things that were measured in one run on one machine,
with their spread: the figures of another machine differ, the ratios should not by much. Each figure is the median of
its repetitions, and the arms of a comparison take turns, so that whatever disturbs one disturbs the other.

```sh outside
make bench         # all of it, about {minutes} minutes; writes this page anew
make bench-full    # with a million waiting and ten million stored messages
make bench-short   # whether everything runs, at tiny sizes, in less than a minute
.venv/bin/python -m bench.send_sms --repetitions 9 --json -    # one alone; --help names its sizes
```
"""
_MINUTES = 14


@attrs.frozen
class Run:
    """Everything that one run of the benchmarks has brought."""

    machine: Mapping[str, str]
    form: str
    results: Sequence[Result]

    @classmethod
    def read(cls, path: pathlib.Path) -> "Run":
        """Read what bench.run wrote."""
        document = json.loads(path.read_text())
        results = [Result.from_json(one) for one in document["results"]]
        return cls(document["machine"], document["form"], results)


def page(run: Run, before: Run | None, folder: str) -> str:
    """Write the page; `folder` is where it finds its plots. Pure."""
    drawn = [plot for plot, _ in plots.draw(run.results)]
    parts = [_HEAD.format(minutes=_MINUTES)]
    parts.append("## The goals\n\n" + tables.goals(run.results))
    parts.append("## The machine\n\n" + tables.table(["", ""], run.machine.items()))
    for result in run.results:
        pictures = "\n".join(f"![{one.title}]({folder}/{one.file}.svg)" for one in drawn if one.bench == result.bench)
        notes = "\n".join(f"- {note}" for note in result.notes)
        setting = ", ".join(f"{name} {value}" for name, value in result.setting.items())
        command = f"`python -m bench.{result.bench}` with {setting}"
        figures = f"<details><summary>All figures</summary>\n\n{tables.figures(result)}\n\n</details>"
        parts.append("\n\n".join([f"## {result.title}", command, pictures, notes, figures]))
    if before is not None:
        parts.append(_before_and_after(run, before))
    return "\n\n".join(parts) + "\n"


def _before_and_after(run: Run, before: Run) -> str:
    taken = [
        f"commit {one.machine['commit']}, {one.machine['taken']}, load {one.machine['load before']}{_note(one)}"
        for one in (before, run)
    ]
    words = f"Before: {taken[0]}. After: {taken[1]}. Two runs apart in time: only ratios (×) compare well."
    return f"## Before and after\n\n{words}\n\n{tables.changes(before.results, run.results)}"


def _note(run: Run) -> str:
    note = run.machine.get("note", "")
    return f" ({note})" if note else ""


def write(results: pathlib.Path, before: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Write page and plots; the page lies beside the folder of its plots and has its name."""
    run = Run.read(results)
    folder.mkdir(parents=True, exist_ok=True)
    for plot, text in plots.draw(run.results):
        (folder / f"{plot.file}.svg").write_text(text)
    target = folder.with_suffix(".md")
    target.write_text(page(run, Run.read(before) if before.exists() else None, folder.name))
    return target


def main() -> None:
    """Make the page from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.report")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="holds results.json, gets the plots")
    parser.add_argument("--before", type=pathlib.Path, default=BEFORE, help="an earlier run to compare with")
    options = parser.parse_args()
    print(write(options.folder / "results.json", options.before, options.folder))


if __name__ == "__main__":
    main()
