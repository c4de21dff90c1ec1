import json
import pathlib
import xml.etree.ElementTree as ET

import pytest

from bench import plots, svg, tables
from bench.command import Bench
from bench.figure import Figure, Result
from bench.pacing import gaps_ms
from bench.report import Run, page
from bench.shares import by_package
from bench.spread import spread
from bench.stored_rows import STEP_MS, message_id
from bench.template import Template
from messaging.model import address_of

_ROOT = pathlib.Path(__file__).parents[3]

RESULT = Result(
    "send_sms",
    "SendSms",
    {"repetitions": 3},
    [
        Figure("gateway ÷ floor", "×", (0.8, 0.9, 1.0), ">= 0.85"),
        Figure("accepted: gateway", "/s", (100, 120, 110)),
        Figure("accepted: floor <bare>", "/s", (120, 130, 140), "<= 100"),
    ],
    ["a note"],
)
GROWTH = Result("stored", "Stored", {}, [Figure("GetStatus, p99", "ms", (n, n + 1), at=10.0**n) for n in (2, 3, 4)])


def test_result_comes_back_from_its_json() -> None:
    for result in (RESULT, GROWTH):
        assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize(("goal", "reached"), [("", None), (">= 0.85", True), (">= 0.95", False), ("<= 0.9", True)])
def test_goal_is_held_against_the_median(goal: str, *, reached: bool | None) -> None:
    assert Figure("x", "×", (0.1, 0.9, 5.0), goal).reached is reached


@pytest.mark.parametrize("values", [(), (float("nan"),), (float("inf"), 1.0), (-1.0,)])
def test_what_cannot_be_is_problems(values: tuple[float, ...]) -> None:
    assert Result("b", "B", {}, [Figure("x", "ms", values)]).problems()
    assert not RESULT.problems()
    assert Result("b", "B", {}, []).problems() == ["b: no figures"]


def test_plots_are_well_formed_and_name_every_row() -> None:
    drawn = {plot.file: text for plot, text in plots.draw([RESULT, GROWTH])}
    assert set(drawn) == {"send-sms-accepted", "stored-p99"}
    words = ["".join(ET.fromstring(text).itertext()) for text in drawn.values()]  # noqa: S314 - our own text
    assert "floor <bare>" in words[0]
    assert "GetStatus, p99" in words[1]


def test_bars_and_lines_stay_within_the_picture() -> None:
    texts = [
        svg.bars("t", "ms", [svg.Bar("a", spread([0.0, 5.0]), goal=50.0)]),
        svg.lines("t", "ms", "n", {"a": [(1e4, spread([0.5])), (1e7, spread([2.0, 900.0]))]}),
    ]
    for text in texts:
        root = ET.fromstring(text)  # noqa: S314 - our own text
        for one in root.iter():
            assert all(0 <= float(one.get(name, "0")) <= svg.WIDTH for name in ("x", "x1", "x2", "cx"))
            assert all(0 <= float(one.get(name, "0")) <= float(root.get("height", "0")) for name in ("y1", "y2", "cy"))


def test_page_tells_goals_figures_and_what_has_changed() -> None:
    machine = {"commit": "c0ffee", "taken": "today", "load before": "0.1", "cores": "2"}
    run = Run(machine, "normal", [RESULT, GROWTH])
    text = page(run, run, "performance")
    assert "![SendSms accepted a second](performance/send-sms-accepted.svg)" in text
    assert "| SendSms: gateway ÷ floor | 0.900 | × | ≥ 0.85 | yes |" in text
    assert "## Before and after" in text
    assert "## Before and after" not in page(run, None, "performance")


def test_time_of_what_is_built_in_counts_for_its_caller_and_waiting_for_nobody() -> None:
    ours, theirs = ("/x/site-packages/nats/aio/client.py", 1, "f"), (str(_ROOT / "messaging" / "codec.py"), 1, "g")
    builtin, wait = ("~", 0, "<built-in method len>"), ("~", 0, "<method 'poll' of 'select.epoll' objects>")
    stats = {
        ours: (1, 1, 2.0, 9.0, {}),
        theirs: (1, 1, 1.0, 1.0, {ours: (1, 1, 1.0, 1.0)}),
        builtin: (2, 2, 0.5, 0.5, {ours: (1, 1, 0.2, 0.2), theirs: (1, 1, 0.3, 0.3)}),
        wait: (1, 1, 99.0, 99.0, {ours: (1, 1, 99.0, 99.0)}),
    }
    assert by_package(stats) == pytest.approx({"nats": 2.2, "messaging": 1.3})


def test_table_of_sizes_names_the_size() -> None:
    assert "| GetStatus, p99 | 10,000 |" in tables.figures(GROWTH)


def test_gaps_are_taken_in_order_of_time() -> None:
    assert gaps_ms([3_000_000, 1_000_000, 1_500_000]) == [0.5, 1.5]


def test_forms_of_a_bench_differ_in_their_sizes() -> None:
    async def run() -> Result:
        return RESULT

    bench = Bench("b", run, {"n": 5, "sizes": [1]}, {"n": 1}, {"sizes": [1, 2]})
    assert bench.setting("normal") == {"n": 5, "sizes": [1]}
    assert bench.setting("short") == {"n": 1, "sizes": [1]}
    assert bench.setting("full") == {"n": 5, "sizes": [1, 2]}


def test_ids_of_made_rows_are_ids_of_ours_and_ordered_in_time() -> None:
    first, second = message_id(0, 1_700_000_000_000), message_id(1, 1_700_000_000_000)
    assert address_of("default", str(first)).time == f"{1_700_000_000_000:012x}"
    assert int(second.hex[:12], 16) - int(first.hex[:12], 16) == STEP_MS


def test_floor_publishes_under_the_condition_of_the_gateway() -> None:
    template = Template(b"", "00-1-2-01")
    subject, address = template.subject("p1")
    assert subject == f"sms.accept.p1.normal.{address}"
    assert template.headers(address, conditional=True) == {
        "Nats-Expected-Last-Subject-Sequence": "0",
        "Nats-Expected-Last-Subject-Sequence-Subject": f"sms.accept.*.*.default.{address.key}.*",
        "traceparent": "00-1-2-01",
    }
    assert template.headers(address, conditional=False) == {"traceparent": "00-1-2-01"}
