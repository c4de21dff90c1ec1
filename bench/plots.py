"""Which figures are plotted, and how. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import attrs

from bench import svg
from bench.figure import Figure, Result

_THEIRS = re.compile("floor|nats|postgres|simulator")
"""Matches the names of figures that are not ours: baselines and servers."""


@attrs.frozen
class Plot:
    """One plot of one benchmark: the figures whose names begin with `start` and end with `end`.

    `across` is the label of the sizes for a line plot; empty means a bar plot.
    """

    file: str
    bench: str
    title: str
    start: str
    end: str = ""
    across: str = ""

    def chooses(self, figure: Figure) -> bool:
        """Whether a figure is in the plot."""
        return figure.name.startswith(self.start) and figure.name.endswith(self.end)


PLOTS = (
    Plot("send-sms-accepted", "send_sms", "SendSms accepted a second", "accepted"),
    Plot("send-sms-p99", "send_sms", "SendSms: 99 of 100 answers come within", "answer p99"),
    Plot("send-sms-cpu", "send_sms", "SendSms: CPU of the server for a call", "CPU of the server for a call:"),
    Plot("batch-send-accepted", "batch_send", "BatchSend accepted a second", "accepted"),
    Plot("to-socket", "to_socket", "Idle: from SendSms to the provider's socket, and to its answer", "SendSms"),
    Plot(
        "whole-way-cpu",
        "whole_way",
        "CPU for a message from end to end, by BatchSend",
        "CPU for a message, by BatchSend",
    ),
    Plot("pacing-gaps", "pacing", "Gaps between the sends of one provider, even gap = 1", "gap"),
    Plot("waiting-rates", "waiting", "Rates beside a backlog", "", "ed", "messages waiting"),
    Plot("waiting-memory", "waiting", "Memory beside a backlog", "memory with", "", "messages waiting"),
    Plot("stored-p99", "stored", "99 of 100 answers from the history come within", "", "p99", "messages stored"),
    Plot("stored-projected", "stored", "Records that one projector writes", "projected", "", "messages stored"),
    Plot("shares-gateway", "shares", "Where the gateway's time goes (BatchSend)", "gateway"),
    Plot("shares-dispatcher", "shares", "Where a dispatcher's time goes", "dispatcher"),
    Plot("shares-projector", "shares", "Where the projector's time goes", "projector"),
)


def draw(results: Iterable[Result]) -> Iterator[tuple[Plot, str]]:
    """Yield every plot that has figures, with its SVG text."""
    known = {result.bench: result for result in results}
    for plot in PLOTS:
        if plot.bench not in known:
            continue
        chosen = [one for one in known[plot.bench].figures if plot.chooses(one)]
        if chosen:
            yield plot, _lines(plot, chosen) if plot.across else _bars(plot, chosen)


def _bars(plot: Plot, chosen: list[Figure]) -> str:
    rows = [svg.Bar(_label(plot, one), one.spread, not _THEIRS.search(one.name), _goal(one)) for one in chosen]
    return svg.bars(plot.title, chosen[0].unit, rows)


def _goal(figure: Figure) -> float | None:
    return float(figure.goal.partition(" ")[2]) if figure.goal else None


def _label(plot: Plot, figure: Figure) -> str:
    """Return the label without the common beginning of all rows, up to a colon."""
    _, colon, rest = figure.name.partition(": ")
    return rest if colon and plot.start else figure.name


def _lines(plot: Plot, chosen: list[Figure]) -> str:
    series = defaultdict(list)
    for one in chosen:
        if one.at is not None:
            series[_label(plot, one)].append((one.at, one.spread))
    return svg.lines(plot.title, chosen[0].unit, plot.across, series)
