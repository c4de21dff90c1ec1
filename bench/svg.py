"""Two kinds of plots as SVG text: bars with spreads, and lines over sizes. Pure."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import attrs

from bench.spread import Spread, shown

WIDTH = 820
_LEFT, _RIGHT, _TOP, _LINE = 340, 150, 44, 30
_RED = "#b3261e"
_COLOURS = ("#2c6fbb", "#d1603d", "#3a8f5c", "#8a5fb0", "#b08d2f", "#5f6b7a", "#c2477f", "#3f9ea8")
_FONT = "font-family='sans-serif' font-size='13'"


@attrs.frozen
class Bar:
    """One row: its label and spread, whether it is ours or a baseline, and its goal."""

    label: str
    spread: Spread
    ours: bool = True
    goal: float | None = None


def _page(height: float, title: str, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' width='{WIDTH}' "
        f"height='{height:.0f}' {_FONT}>"
    )
    ground = f"<rect width='{WIDTH}' height='{height:.0f}' fill='#ffffff'/>"
    return "\n".join([head, ground, _text(16, 26, title, "start", "bold"), *parts, "</svg>"]) + "\n"


def _text(
    x: float, y: float, words: str, anchor: str = "start", weight: str = "normal", colour: str = "#222222"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-weight='{weight}' fill='{colour}'>"
        f"{escape(words)}</text>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = "") -> str:
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    places = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {places} stroke='{colour}' stroke-width='{width}'{dashes}/>"


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Draw a bar for each row up to its median, with a line from minimum to maximum and a mark at its goal."""
    most = max([row.spread.high for row in rows] + [row.goal or 0.0 for row in rows]) or 1.0
    scale = (WIDTH - _LEFT - _RIGHT) / most
    parts = []
    for n, row in enumerate(rows):
        y, spread = _TOP + n * _LINE, row.spread
        middle = y + _LINE / 2 - 4
        colour = _COLOURS[0] if row.ours else "#9aa7b5"
        words = shown(spread.middle)
        if row.goal is not None:
            words += f" (goal {row.goal:g})"
            parts.append(
                _stroke(_LEFT + row.goal * scale, y - 4, _LEFT + row.goal * scale, y + _LINE - 5, _RED, 2, "4 3")
            )
        parts += [
            _text(_LEFT - 10, middle + 5, row.label, "end"),
            f"<rect x='{_LEFT}' y='{y}' width='{spread.middle * scale:.1f}' height='{_LINE - 9}' fill='{colour}'/>",
            _stroke(_LEFT + spread.low * scale, middle, _LEFT + spread.high * scale, middle, "#222222", 1.5),
            _text(_LEFT + max(spread.high, row.goal or 0.0) * scale + 8, middle + 5, words),
        ]
    bottom = _TOP + _LINE * len(rows)
    parts.append(_text(_LEFT, bottom + 16, f"{unit}; bar: median, line: least to most", colour="#5f6b7a"))
    return _page(bottom + 30, title, parts)


@attrs.frozen
class _Scale:
    """A logarithmic axis between two powers of ten."""

    low: int
    high: int
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float) -> "_Scale":
        known = [value for value in values if value > 0] or [1.0]
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        return cls(low, max(high, low + 1), begin, end)

    def at(self, value: float) -> float:
        part = (math.log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def lines(title: str, unit: str, across: str, series: Mapping[str, Sequence[tuple[float, Spread]]]) -> str:
    """Draw a line over sizes for each series, with error bars from minimum to maximum; both axes are logarithmic."""
    left, top, bottom, right = 80.0, 50.0, 330.0, WIDTH - 60.0
    points = [point for row in series.values() for point in row]
    x_axis = _Scale.over([size for size, _ in points], left, right)
    spreads = [value for _, spread in points for value in (spread.low, spread.high)]
    y_axis = _Scale.over(spreads, bottom, top)
    parts = []
    for value in y_axis.ticks:
        parts += [_stroke(left, y_axis.at(value), right, y_axis.at(value), "#dde3ea")]
        parts += [_text(left - 8, y_axis.at(value) + 4, f"{value:,g}", "end")]
    for value in x_axis.ticks:
        parts += [_stroke(x_axis.at(value), top, x_axis.at(value), bottom, "#dde3ea")]
        parts += [_text(x_axis.at(value), bottom + 18, f"{value:,.0f}", "middle")]
    for n, (name, row) in enumerate(series.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        places = [(x_axis.at(size), y_axis.at(spread.middle), spread) for size, spread in sorted(row, key=_size)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, y, spread in places:
            parts.append(_stroke(x, y_axis.at(spread.low), x, y_axis.at(spread.high), colour, 1.5))
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>")
        key = bottom + 62 + n * 20
        parts += [_stroke(left, key - 4, left + 24, key - 4, colour, 3), _text(left + 32, key, name)]
    parts.append(_text((left + right) / 2, bottom + 38, f"{across}; {unit}", "middle", colour="#5f6b7a"))
    return _page(bottom + 62 + len(series) * 20, title, parts)


def _size(point: tuple[float, Spread]) -> float:
    return point[0]
