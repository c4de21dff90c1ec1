"""Figures as Markdown tables. Pure."""

from collections.abc import Iterable, Sequence

from bench.figure import Figure, Result
from bench.spread import shown

_SIGNS = {">=": "≥", "<=": "≤"}
_REACHED = {True: "yes", False: "**no**", None: ""}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table; all columns but the first are numbers and aligned right."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goal(figure: Figure) -> str:
    """Format a figure's goal for people."""
    sign, _, number = figure.goal.partition(" ")
    return f"{_SIGNS[sign]} {number}" if sign else ""


def figures(result: Result) -> str:
    """Format all figures of a benchmark with their spreads."""
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
    """Format the figures that have a goal, of all benchmarks."""
    rows = [
        [f"{result.title}: {one.name}", shown(one.spread.middle), one.unit, goal(one), _REACHED[one.reached]]
        for result in results
        for one in result.figures
        if one.goal
    ]
    return table(["", "median", "unit", "goal", "reached"], rows)


def changes(before: Iterable[Result], after: Iterable[Result]) -> str:
    """Format the medians of two runs next to each other: figures with a goal, ratios and rates."""
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
