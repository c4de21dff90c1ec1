"""What keeps a process from its work is logged once, and kept for its health and `smsctl lanes`."""

from structlog.testing import capture_logs

from messaging.runtime.problems import CLOCK, NO_SHARE, STANDBY, Problems


def test_problem_is_logged_when_it_begins_and_when_it_has_ended_and_not_in_between() -> None:
    problems = Problems()
    with capture_logs() as lines:
        for _ in range(3):
            problems.report(NO_SHARE, "no coordinator leads")
        problems.clear(NO_SHARE)
        problems.clear(NO_SHARE)
    assert [line["log_level"] for line in lines] == ["error", "warning"]
    assert lines[0]["detail"] == "no coordinator leads"


def test_process_that_stands_by_is_not_kept_from_its_work() -> None:
    problems = Problems()
    problems.report(STANDBY, "other pods hold the rate", blocks=False)
    assert not problems.blocking
    problems.report(CLOCK, "the clock is wrong")
    assert problems.blocking
    assert [one.code for one in problems] == [STANDBY, CLOCK]
    problems.clear(CLOCK)
    assert not problems.blocking
