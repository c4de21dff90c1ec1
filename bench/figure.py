"""The result of a benchmark: figures with all their repetitions, which can be written as JSON and read. Pure."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from bench.spread import Spread, spread

_GOALS = {">=": operator.ge, "<=": operator.le}


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@attrs.frozen
class Figure:
    """One measured quantity, with a value for each repetition.

    `goal` is empty or like ">= 0.85", and is compared with the median. `at` is the size at which it was measured, for
    benchmarks of growing sizes; figures with the same name and different sizes become one line of a plot.
    """

    name: str
    unit: str
    values: tuple[float, ...] = attrs.field(converter=_floats)
    goal: str = ""
    at: float | None = None

    @property
    def spread(self) -> Spread:
        """The spread of the repetitions."""
        return spread(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if not self.goal:
            return None
        sign, _, number = self.goal.partition(" ")
        return bool(_GOALS[sign](self.spread.middle, float(number)))


def _figures(values: Iterable[Figure]) -> tuple[Figure, ...]:
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen
class Result:
    """The figures of one benchmark, its parameters, and notes for the reader."""

    bench: str
    title: str
    setting: Mapping[str, Any]
    figures: Sequence[Figure] = attrs.field(converter=_figures)
    notes: Sequence[str] = attrs.field(default=(), converter=_texts)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; each figure has its spread next to its values."""
        figures = [{**attrs.asdict(one), "spread": attrs.asdict(one.spread)} for one in self.figures]
        return {
            "bench": self.bench,
            "title": self.title,
            "setting": dict(self.setting),
            "figures": figures,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Result":
        """Read what `to_json` returned."""
        names = [field.name for field in attrs.fields(Figure)]
        figures = [Figure(**{name: one[name] for name in names}) for one in document["figures"]]
        return cls(document["bench"], document["title"], document["setting"], figures, document["notes"])

    def problems(self) -> list[str]:
        """Describe every invalid figure: no values, not a number, or below zero."""
        if not self.figures:
            return [f"{self.bench}: no figures"]
        return [
            f"{self.bench}: {one.name} is {list(one.values)}"
            for one in self.figures
            if not one.values or any(not math.isfinite(value) or value < 0 for value in one.values)
        ]
