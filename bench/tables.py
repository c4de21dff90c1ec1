"""Figures as Markdown tables. Pure."""

from collections.abc import Iterable, Sequence

from bench.figure import Figure, Result
from bench.spread import shown

_SIGNS = {">=": "≥", "<=": "≤"}
_REACHED = {True: "yes", False: "**no**", None: ""}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; all columns but the first are numbers, and stand on the right."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goal(figure: Figure) -> str:
    """Write a figure's goal as people read it."""
    sign, _, number = figure.goal.partition(" ")
    return f"{_SIGNS[sign]} {number}" if sign else ""


def figures(result: Result) -> str:
    """Write every figure of a benchmark with its spread."""
    sizes = any(one.at is not None for one in result.figures)
    heads = [
        "",
        *(["at"] if sizes else []),
        "least",
        "quartile",
        "median",
        "quartile",
        "most",
        "unit",
        "goal",
        "reached",
    ]
    rows = []
    for one in result.figures:
        spread = one.spread
        numbers = map(shown, (spread.low, spread.lower, spread.middle, spread.upper, spread.high))
        at = [f"{one.at:,.0f}" if one.at is not None else ""] if sizes else []
        rows.append([one.name, *at, *numbers, one.unit, goal(one), _REACHED[one.reached]])
    return table(heads, rows)


def goals(results: Iterable[Result]) -> str:
    """Write the figures that have a goal, of all benchmarks."""
    rows = [
        [f"{result.title}: {one.name}", shown(one.spread.middle), one.unit, goal(one), _REACHED[one.reached]]
        for result in results
        for one in result.figures
        if one.goal
    ]
    return table(["", "median", "unit", "goal", "reached"], rows)


def changes(before: Iterable[Result], after: Iterable[Result]) -> str:
    """Set the medians of two runs beside each other: those with a goal, and all ratios and sizes."""
    known = {(result.bench, one.name, one.at): one for result in before for one in result.figures}
    rows = []
    for result in after:
        for one in result.figures:
            old = known.get((result.bench, one.name, one.at))
            if old is None or not (one.goal or one.unit == "×" or one.unit.endswith("/s")):
                continue
            was, now = old.spread.middle, one.spread.middle
            name = one.name if one.at is None else f"{one.name}, at {one.at:,.0f}"
            factor = shown(now / was) if was else "–"
            rows.append([f"{result.title}: {name}", shown(was), shown(now), one.unit, factor])
    return table(["", "before", "after", "unit", "after ÷ before"], rows)
